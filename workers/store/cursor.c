/*
 * cursor.c: the places in lists that clients are shown.
 *
 * Most places are numbers of the store's, counted over all tenants: shown as they
 * are, two of them would tell a tenant how much all others did in between.  So a
 * number goes out as one block under a key of the store (base/block.h), as 22
 * characters of base64url:
 *
 *	0	kind of list
 *	1-7	number of the tenant, the highest byte first
 *	8-15	the place, the highest byte first
 *
 * What is in the first half has to be what is expected there: a cursor of
 * another tenant, of another kind of list or of another store, and one that was
 * made up, is none.  The key is kept in the store, so that cursors outlive every
 * process, and all processes of a store understand each other's.
 */
#include <string.h>

#include "base/digest.h"
#include "base/must.h"
#include "store/desk.h"

#define TIME_ZERO	(INT64_C(1) << 62)

static void
put_number(uint8_t *to, uint64_t n)
{
	for (int i = 7; i >= 0; i--, n >>= 8)
		to[i] = (uint8_t)n;
}

static uint64_t
get_number(const uint8_t *from)
{
	uint64_t n = 0;

	for (int i = 0; i < 8; i++)
		n = n << 8 | from[i];
	return n;
}

/* Kept as two numbers.  Made under the store's lock: of two that start at once one makes it. */
static enum db_result
make_key(struct desk *k, int64_t half[2])
{
	enum db_result result;

	TRY(DB(k->db, begin));
	result = DB(k->db, meta_get, DB_CURSOR_KEY_1, &half[1]);
	if (result == DB_OK)
		result = DB(k->db, meta_get, DB_CURSOR_KEY_0, &half[0]);
	if (result == DB_NONE) {
		digest_random(half, 2 * sizeof(half[0]));
		result = DB(k->db, meta_set, DB_CURSOR_KEY_0, half[0]);
		if (result == DB_OK)
			result = DB(k->db, meta_set, DB_CURSOR_KEY_1, half[1]);
	}
	if (result == DB_OK)
		return DB(k->db, commit);
	(void)DB(k->db, rollback);
	return DB_FAILED;
}

enum db_result
cursor_start(struct desk *k)
{
	uint8_t key[BLOCK_LEN];
	int64_t half[2];
	enum db_result result = DB(k->db, meta_get, DB_CURSOR_KEY_0, &half[0]);

	if (result == DB_OK)
		result = DB(k->db, meta_get, DB_CURSOR_KEY_1, &half[1]);
	if (result == DB_NONE)
		result = make_key(k, half);
	if (result != DB_OK)
		return DB_FAILED;
	put_number(key, (uint64_t)half[0]);
	put_number(key + 8, (uint64_t)half[1]);
	k->cursor_key = block_key_new(key);
	return DB_OK;
}

void
cursor_stop(struct desk *k)
{
	block_key_free(&k->cursor_key);
}

static uint64_t
whose(enum cursor_kind kind, int64_t tenant_pk)
{
	return (uint64_t)kind << 56 | ((uint64_t)tenant_pk & UINT64_C(0x00ffffffffffffff));
}

void
cursor_put(struct desk *k, struct buf *b, enum cursor_kind kind, int64_t tenant_pk, int64_t place)
{
	uint8_t block[BLOCK_LEN];

	put_number(block, whose(kind, tenant_pk));
	put_number(block + 8, (uint64_t)place);
	block_hide(k->cursor_key, block, block);
	digest_base64url_put(b, block, sizeof(block));
}

bool
cursor_get(struct desk *k, struct slice text, enum cursor_kind kind, int64_t tenant_pk, int64_t *place)
{
	uint8_t block[BLOCK_LEN];

	if (digest_base64url_decode(text, block, sizeof(block)) != sizeof(block))
		return false;
	block_show(k->cursor_key, block, block);
	if (get_number(block) != whose(kind, tenant_pk))
		return false;
	*place = (int64_t)get_number(block + 8);
	return *place > 0;
}

/*
 * Behind the block, whose second half are the first bytes of the text's SHA-256, comes the text itself: of
 * a list that is sorted by a name its reader sees anyway.
 */
void
cursor_put_text(struct desk *k, struct buf *b, enum cursor_kind kind, int64_t tenant_pk, struct slice text)
{
	uint8_t sealed[BLOCK_LEN + CURSOR_TEXT_MAX], hash[SHA256_LEN];

	must(text.len <= CURSOR_TEXT_MAX);
	digest_sha256(text, hash);
	put_number(sealed, whose(kind, tenant_pk));
	memcpy(sealed + 8, hash, BLOCK_LEN - 8);
	block_hide(k->cursor_key, sealed, sealed);
	memcpy(sealed + BLOCK_LEN, text.p, text.len);
	digest_base64url_put(b, sealed, BLOCK_LEN + text.len);
}

bool
cursor_get_text(struct desk *k, struct slice cursor, enum cursor_kind kind, int64_t tenant_pk, struct buf *text)
{
	uint8_t sealed[BLOCK_LEN + CURSOR_TEXT_MAX], hash[SHA256_LEN];
	long n = digest_base64url_decode(cursor, sealed, sizeof(sealed));

	if (n <= BLOCK_LEN)
		return false;
	block_show(k->cursor_key, sealed, sealed);
	digest_sha256(slice_bytes(sealed + BLOCK_LEN, (size_t)n - BLOCK_LEN), hash);
	if (get_number(sealed) != whose(kind, tenant_pk) || memcmp(sealed + 8, hash, BLOCK_LEN - 8) != 0)
		return false;
	buf_clear(text);
	buf_put(text, sealed + BLOCK_LEN, (size_t)n - BLOCK_LEN);
	return true;
}

/*
 * A tenant of which nothing was stored yet has no number.  A dashboard that came then stands at its beginning:
 * number 0, place 0.  That much of a tenant anybody of the tenant may know.
 */
bool
cursor_get_begin(struct desk *k, struct slice text, int64_t tenant_pk, int64_t *place)
{
	uint8_t block[BLOCK_LEN];

	if (digest_base64url_decode(text, block, sizeof(block)) != sizeof(block))
		return false;
	block_show(k->cursor_key, block, block);
	*place = (int64_t)get_number(block + 8);
	return (get_number(block) == whose(CURSOR_EVENT, tenant_pk) && *place >= 0) ||
	    (get_number(block) == whose(CURSOR_EVENT, 0) && *place == 0);
}

/* Two blocks, the time and the number.  A time may be below 0, a place may not. */
void
cursor_put_sample(struct desk *k, struct buf *b, int64_t tenant_pk, int64_t at, int64_t seq)
{
	cursor_put(k, b, CURSOR_SAMPLE_AT, tenant_pk, at + TIME_ZERO);
	cursor_put(k, b, CURSOR_SAMPLE, tenant_pk, seq);
}

bool
cursor_get_sample(struct desk *k, struct slice text, int64_t tenant_pk, int64_t *at, int64_t *seq)
{
	int64_t shifted;

	if (text.len != 2 * CURSOR_LEN ||
	    !cursor_get(k, slice_bytes(text.p, CURSOR_LEN), CURSOR_SAMPLE_AT, tenant_pk, &shifted) ||
	    !cursor_get(k, slice_bytes(text.p + CURSOR_LEN, CURSOR_LEN), CURSOR_SAMPLE, tenant_pk, seq))
		return false;
	*at = shifted - TIME_ZERO;
	return true;
}

/*
 * block.c: one block of AES-128 by OpenSSL.  Used by storage, for cursors; a key
 * schedule is made once, each way, since making it costs more than the block does.
 */
#include <openssl/evp.h>
#include <stdlib.h>

#include "base/block.h"
#include "base/must.h"

struct block_key {
	EVP_CIPHER_CTX *hide, *show;	/* owned */
};

static EVP_CIPHER_CTX *
schedule(const uint8_t key[BLOCK_LEN], int hide)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int ok;

	must(ctx != NULL);
	ok = EVP_CipherInit_ex2(ctx, EVP_aes_128_ecb(), key, NULL, hide, NULL);
	must(ok == 1);
	ok = EVP_CIPHER_CTX_set_padding(ctx, 0);
	must(ok == 1);
	return ctx;
}

struct block_key *
block_key_new(const uint8_t key[BLOCK_LEN])
{
	struct block_key *k = must_alloc(sizeof(*k));

	k->hide = schedule(key, 1);
	k->show = schedule(key, 0);
	return k;
}

void
block_key_free(struct block_key **k)
{
	if (*k == NULL)
		return;
	EVP_CIPHER_CTX_free((*k)->hide);
	EVP_CIPHER_CTX_free((*k)->show);
	free(*k);
	*k = NULL;
}

static void
one_block(EVP_CIPHER_CTX *ctx, const uint8_t in[BLOCK_LEN], uint8_t out[BLOCK_LEN])
{
	int len = 0, ok = EVP_CipherUpdate(ctx, out, &len, in, BLOCK_LEN);

	must(ok == 1 && len == BLOCK_LEN);
}

void
block_hide(struct block_key *k, const uint8_t in[BLOCK_LEN], uint8_t out[BLOCK_LEN])
{
	one_block(k->hide, in, out);
}

void
block_show(struct block_key *k, const uint8_t in[BLOCK_LEN], uint8_t out[BLOCK_LEN])
{
	one_block(k->show, in, out);
}

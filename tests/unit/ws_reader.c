/*
 * ws_reader.c: the reader against scripts of frames: the cases of the Autobahn test suite
 * (families 1 to 7, 9, 10, 12, 13), limits, and random streams.  Each input is read whole, byte
 * by byte and cut at every place, and must give the same events as the plain implementation.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/ws_trace.h"
#include "ws/close.h"
#include "ws/deflate.h"
#include "ws/frame.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct ws_limits server = { .max_message = 65536, .max_fragments = 16 };

static void
expect_cut(const char *name, const struct bytes *b, const struct ws_limits *limits, bool deflate,
    struct cuts cuts, const char *want)
{
	char *got = trace_run(b->p, b->n, limits, deflate, cuts);

	if (strcmp(got, want) != 0)
		fail_msg("%s, cut at %zu, %zu, every %zu:\n got  %s\n want %s", name, cuts.cut1,
		    cuts.cut2, cuts.step, got, want);
	free(got);
}

/* Every way of reading gives the trace that is wanted, or that of the plain implementation. */
static void
expect_input(const char *name, const struct bytes *b, const struct ws_limits *limits,
    bool deflate, const char *want)
{
	char *plain = trace_reference(b->p, b->n, limits, deflate);
	size_t stride = b->n <= 2000 ? 1 : b->n / 97;

	if (want != NULL && strcmp(plain, want) != 0)
		fail_msg("%s: the plain implementation:\n got  %s\n want %s", name, plain, want);
	expect_cut(name, b, limits, deflate, (struct cuts){ 0, 0, 0 }, plain);
	expect_cut(name, b, limits, deflate, (struct cuts){ 0, 0, 1 }, plain);
	for (size_t i = 1; i < b->n; i += stride) {
		expect_cut(name, b, limits, deflate, (struct cuts){ i, 0, 0 }, plain);
		if (b->n <= 48)
			for (size_t j = i + 1; j < b->n; j++)
				expect_cut(name, b, limits, deflate, (struct cuts){ i, j, 0 }, plain);
	}
	if (b->n > 100)
		for (size_t step = 2; step < 20; step++)
			expect_cut(name, b, limits, deflate, (struct cuts){ 0, 0, step }, plain);
	free(plain);
}

static void
expect_script(const char *script, const struct ws_limits *limits, bool deflate, const char *want)
{
	struct bytes b = { NULL, 0, 0 };

	put_script(&b, script, !limits->client);
	expect_input(script, &b, limits, deflate, want);
	bytes_free(&b);
}

struct script {
	const char *input, *want;
};

static void
expect_scripts(const struct script *s, size_t n)
{
	for (; n > 0; s++, n--)
		expect_script(s->input, &server, false, s->want);
}

/* 1 and 2: text, binary, pings and pongs of all lengths. */
static void
messages_and_pings(void **state)
{
	static const struct script scripts[] = {
		{ "81:", "T()" },
		{ "81:Hello", "T(Hello)" },
		{ "82:", "B()" },
		{ "82=00ff80", "B(\\00\\ff\\80)" },
		{ "81:one 82:two 81:three", "T(one) B(two) T(three)" },
		{ "89:", "P()" },
		{ "89:Hello,_world!", "P(Hello, world!)" },
		{ "89=00fffefdfcfb00ff", "P(\\00\\ff\\fe\\fd\\fc\\fb\\00\\ff)" },
		{ "89*126", "E(1002)" },
		{ "8a*126", "E(1002)" },
		{ "88*126", "E(1002)" },
		{ "8a:", "O()" },
		{ "8a:unsolicited", "O(unsolicited)" },
		{ "8a:unsolicited 89:ping", "O(unsolicited) P(ping)" },
		{ "89:0 89:1 89:2 89:3 89:4 89:5 89:6 89:7 89:8 89:9",
		  "P(0) P(1) P(2) P(3) P(4) P(5) P(6) P(7) P(8) P(9)" },
	};
	static const size_t sizes[] = { 49, 124, 125, 126, 127, 128, 1000, 65534, 65535, 65536 };

	(void)state;
	expect_scripts(scripts, COUNT(scripts));
	for (size_t i = 0; i < COUNT(sizes); i++) {
		char text[32];

		snprintf(text, sizeof(text), "81*%zu 89:x 82*%zu", sizes[i], sizes[i]);
		expect_script(text, &server, false, NULL);
		if (sizes[i] <= 125) {
			snprintf(text, sizeof(text), "89*%zu 8a*%zu", sizes[i], sizes[i]);
			expect_script(text, &server, false, NULL);
		}
	}
}

/* 3 and 4: reserved bits and opcodes, after which nothing is read. */
static void
reserved_bits_and_opcodes(void **state)
{
	char script[64];

	(void)state;
	for (unsigned first = 0; first < 256; first++) {
		unsigned opcode = first & 15;
		bool known = opcode <= 2 || (opcode >= 8 && opcode <= 10);
		bool good = known && (first & 0x70) == 0 && opcode != 0 &&
		    (opcode < 8 || (first & WS_FIN));

		if (good)
			continue;
		snprintf(script, sizeof(script), "81:before %02x:x 81:after 89:after", first);
		expect_script(script, &server, false, "T(before) E(1002)");
		snprintf(script, sizeof(script), "01:before 89: %02x: 81:after", first);
		if (opcode != 0 || (first & 0x70) != 0)
			expect_script(script, &server, false, "P() E(1002)");
	}
}

/* 5: fragments, with control frames between them. */
static void
fragments(void **state)
{
	static const struct script scripts[] = {
		{ "09:ping 80:continued", "E(1002)" },
		{ "0a:pong 80:continued", "E(1002)" },
		{ "08=03e8 80:", "E(1002)" },
		{ "01:fragment1 80:fragment2", "T(fragment1fragment2)" },
		{ "02:fragment1 80:fragment2", "B(fragment1fragment2)" },
		{ "01:fragment1 89:ping 80:fragment2", "P(ping) T(fragment1fragment2)" },
		{ "01:fragment1 8a: 89: 80:fragment2", "O() P() T(fragment1fragment2)" },
		{ "80:nothing 81:Hello", "E(1002)" },
		{ "00:nothing 81:Hello", "E(1002)" },
		{ "01:f1 80:f2 80:nothing 81:Hello", "T(f1f2) E(1002)" },
		{ "01:f1 00:f2 81:new 80:f3", "E(1002)" },
		{ "01:f1 02:new 80:f3", "E(1002)" },
		{ "01:f1 01:f2 80:f3", "E(1002)" },
		{ "00:a 80:b 00:c 80:d", "E(1002)" },
		{ "01:f1 00:f2 89:p1 00:f3 00:f4 89:p2 80:f5", "P(p1) P(p2) T(f1f2f3f4f5)" },
		{ "01: 00: 80:", "T()" },
		{ "01: 00:a 00: 80:", "T(a)" },
		{ "02: 89: 80: 81:next", "P() B() T(next)" },
		{ "01:a 88=03e8 80:b", "C(1000,)" },
		{ "01=ce 00=ba 89=ff 00=e1 80=bd", "P(\\ff) E(1007)" },
		{ "01=ce 00=ba 89=ff 00=e1 00=bd 80=b9", "P(\\ff) T(\\ce\\ba\\e1\\bd\\b9)" },
		{ "81*3000 01*100 89*125 00*5000 8a*125 80*100 89: 82*1", NULL },
	};

	(void)state;
	expect_scripts(scripts, COUNT(scripts));
}

/* 6: valid and invalid text, whole and in fragments of one byte. */
static void
utf8_in_messages(void **state)
{
	static const struct {
		const char *hex;
		bool valid;
	} texts[] = {
		{ "48656c6c6f2dc2b540c39fc3b6c3a4c3bcc3a0c3a12d5554462d382121", true },
		{ "cebae1bdb9cf83cebcceb5eda080656469746564", false },
		{ "cebae1bdb9cf83cebcceb5", true },
		{ "f4908080", false },
		{ "00", true }, { "c280", true }, { "e0a080", true }, { "f0908080", true },
		{ "f888808080", false }, { "fc8480808080", false },
		{ "7f", true }, { "dfbf", true }, { "efbfbf", true }, { "f48fbfbf", true },
		{ "f7bfbfbf", false }, { "fbbfbfbfbf", false }, { "fdbfbfbfbfbf", false },
		{ "ed9fbf", true }, { "ee8080", true }, { "efbfbd", true }, { "f4908080", false },
		{ "80", false }, { "bf", false }, { "80bf", false }, { "80bf80", false },
		{ "c0", false }, { "e0", false }, { "f0", false }, { "f8", false }, { "fc", false },
		{ "c020", false }, { "e020", false }, { "f020", false }, { "fe", false },
		{ "ff", false }, { "fefeffff", false },
		{ "c0af", false }, { "e080af", false }, { "f08080af", false }, { "c1bf", false },
		{ "e09fbf", false }, { "f08fbfbf", false }, { "c080", false },
		{ "eda080", false }, { "edadbf", false }, { "edae80", false }, { "edafbf", false },
		{ "edb080", false }, { "edbfbf", false }, { "eda080edb080", false },
		{ "efbfbe", true }, { "f09fbfbe", true }, { "f09fbfbf", true },
		{ "cebae1bdb9cf83cebcceb5f4908080656469746564", false },
		{ "ce", false }, { "cebae1", false }, { "cebae1bd", false }, { "cebae1bdb9", true },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		const char *hex = texts[i].hex, *want = texts[i].valid ? NULL : "E(1007)";
		char whole[256], pieces[1024];
		size_t n = 0;

		snprintf(whole, sizeof(whole), "81=%s", hex);
		expect_script(whole, &server, false, want);
		for (size_t j = 0; hex[j] != '\0'; j += 2)
			n += (size_t)snprintf(pieces + n, sizeof(pieces) - n, "%02x=%.2s ",
			    j == 0 ? 0x01 : 0x00, hex + j);
		snprintf(pieces + n, sizeof(pieces) - n, "80:");
		struct ws_limits limits = server;
		limits.max_fragments = 100;
		expect_script(pieces, &limits, false, want);
	}
}

/* The number of bytes after which an error comes; 0: none does. */
static size_t
error_after(const struct bytes *b, const struct ws_limits *limits)
{
	struct ws_reader r;
	size_t at = 0;

	ws_reader_init(&r, false);
	for (size_t i = 0; i < b->n && at == 0; i++) {
		struct ws_message m;
		uint8_t c = b->p[i];
		size_t used;

		if (ws_reader_next(&r, limits, &c, 1, &used, &m) == WS_EVENT_ERROR)
			at = i + 1;
	}
	ws_reader_fini(&r);
	return at;
}

/* 6.4 and the like: an error is told at the byte that makes it, not when the frame is whole. */
static void
errors_come_at_once(void **state)
{
	static const struct {
		const char *script;
		size_t at;
	} cases[] = {
		/* cebae1bdb9cf83cebcceb5, then f4 90: 90 is beyond Unicode. */
		{ "01=cebae1bdb9cf83cebcceb5 00=f4908080 80=656469746564", 17 + 6 + 2 },
		{ "01=cebae1bdb9cf83cebcceb5 00=f4 00=90 80=8080", 17 + 7 + 6 + 1 },
		{ "81=cebae1bdb9cf83cebcceb5f4908080656469746564", 6 + 13 },
		{ "81=cebae1bdb9cf83cebcceb5eda080656469746564", 6 + 13 },
		{ "81=41ff4141414141", 6 + 2 },
		{ "81=414141414141c3", 6 + 7 },
		{ "83:abc", 1 }, { "c1:abc", 6 }, { "09:abc", 1 }, { "8b:", 1 },
		{ "89*126", 2 },
		{ "!81fe007d", 4 },			/* 125 bytes told in 16 bits */
		{ "!81ff000000000000ffff", 10 },	/* 65535 bytes told in 64 bits */
		{ "!81ff8000000000000000", 10 },
		{ "!82ff0000000000010001a1b2c3d4", 14 },	/* beyond the limit */
		{ "!82ff7fffffffffffffffa1b2c3d4", 14 },
		{ "!8105", 2 },				/* no mask */
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct bytes b = { NULL, 0, 0 };
		size_t at;

		put_script(&b, cases[i].script, true);
		at = error_after(&b, &server);
		if (at != cases[i].at)
			fail_msg("%s: after %zu bytes, not %zu", cases[i].script, at, cases[i].at);
		expect_input(cases[i].script, &b, &server, false, NULL);
		bytes_free(&b);
	}
}

/* 7: close frames. */
static void
close_frames(void **state)
{
	static const uint16_t valid[] = { 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011,
		1012, 1013, 1014, 3000, 3999, 4000, 4999 };
	static const uint16_t invalid[] = { 0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000,
		2999, 5000, 65535 };
	static const struct script scripts[] = {
		{ "81:Hello 88=03e8", "T(Hello) C(1000,)" },
		{ "88=03e8 88=03e8", "C(1000,)" },
		{ "88=03e8 89:ping", "C(1000,)" },
		{ "88=03e8 81:text !ffffff", "C(1000,)" },
		{ "01:part 88=03e8 80:rest", "C(1000,)" },
		{ "82*65536 88=03e8 89:", NULL },
		{ "88:", "C(1005,)" },
		{ "88:a", "E(1002)" },
		{ "88=03e8", "C(1000,)" },
		{ "88=03e848656c6c6f20576f726c6421", "C(1000,Hello World!)" },
		{ "88=03e8cebae1bdb9cf83cebcceb5", NULL },
		{ "88=03e8cebae1bdb9cf83cebcceb5eda080656469746564", "E(1007)" },
		{ "88=03e8c3", "E(1007)" },
		{ "88=ffffffffff", "E(1002)" },
	};
	char script[64];

	(void)state;
	expect_scripts(scripts, COUNT(scripts));
	for (size_t i = 0; i < COUNT(valid); i++) {
		char want[32];

		snprintf(script, sizeof(script), "88=%04x 89:", valid[i]);
		snprintf(want, sizeof(want), "C(%u,)", valid[i]);
		expect_script(script, &server, false, want);
	}
	for (size_t i = 0; i < COUNT(invalid); i++) {
		snprintf(script, sizeof(script), "88=%04x 89:", invalid[i]);
		expect_script(script, &server, false, "E(1002)");
	}

	/* The longest reason fits; a byte more makes the frame too long. */
	struct bytes b = { NULL, 0, 0 };
	uint8_t payload[126] = { 0x03, 0xe8 };

	memset(payload + 2, 'r', sizeof(payload) - 2);
	put_frame(&b, 0x88, payload, 125, true);
	expect_input("longest reason", &b, &server, false, NULL);
	b.n = 0;
	put_frame(&b, 0x88, payload, 126, true);
	expect_input("reason too long", &b, &server, false, "E(1002)");
	bytes_free(&b);
}

static void
big(const char *script, uint32_t message, uint32_t frames, const struct cuts *cuts, size_t n)
{
	struct ws_limits limits = { .max_message = message, .max_fragments = frames };
	struct bytes b = { NULL, 0, 0 };
	char *want;

	put_script(&b, script, true);
	want = trace_reference(b.p, b.n, &limits, false);
	for (; n > 0; cuts++, n--)
		expect_cut(script, &b, &limits, false, *cuts, want);
	assert_true(strstr(want, "E(") == NULL);
	free(want);
	bytes_free(&b);
}

/* 9 and 10: big messages, whole, in frames of many sizes, in reads of many sizes. */
static void
big_messages(void **state)
{
	static const struct cuts reads[] = { { 0, 0, 0 }, { 0, 0, 64 }, { 0, 0, 1460 },
		{ 0, 0, 65536 } };
	static const size_t sizes[] = { 64 << 10, 256 << 10, 1 << 20, 4 << 20 };
	static const size_t pieces[] = { 64, 256, 1300, 4096, 65536 };

	(void)state;
	for (size_t i = 0; i < COUNT(sizes); i++) {
		char script[64];

		snprintf(script, sizeof(script), "81*%zu 82*%zu", sizes[i], sizes[i]);
		big(script, 16 << 20, 1, reads, COUNT(reads));
	}
	for (size_t i = 0; i < COUNT(pieces); i++) {
		struct bytes script = { NULL, 0, 0 };
		size_t left = 1 << 20;

		for (unsigned first = 0x01; left > 0; first = 0x00) {
			size_t n = left < pieces[i] ? left : pieces[i];
			char text[32];

			left -= n;
			bytes_put(&script, text, (size_t)snprintf(text, sizeof(text), "%02x*%zu ",
			    left == 0 ? 0x80 : first, n));
		}
		bytes_put(&script, "", 1);
		big((char *)script.p, 1 << 20, 1 << 20, reads, COUNT(reads));
		bytes_free(&script);
	}
}

static void
limits_hold(void **state)
{
	struct ws_limits limits = { .max_message = 10, .max_fragments = 3 };

	(void)state;
	expect_script("81*10 82*10", &limits, false, "T(**********) B(**********)");
	expect_script("81*11", &limits, false, "E(1009)");
	expect_script("01*5 80*5", &limits, false, "T(**********)");
	expect_script("01*5 80*6", &limits, false, "E(1009)");
	expect_script("01*5 89:0123456789ab 80*5", &limits, false, "P(0123456789ab) T(**********)");
	expect_script("01: 00: 80:", &limits, false, "T()");
	expect_script("01: 00: 00: 00:", &limits, false, "E(1009)");
	expect_script("01:a 00:b 00:c 80:d", &limits, false, "E(1009)");
	expect_script("01:a 00:b 80:c 01:a 00:b 80:c", &limits, false, "T(abc) T(abc)");
	limits.max_fragments = 1;
	expect_script("81:a 82:b", &limits, false, "T(a) B(b)");
	expect_script("01:a 80:b", &limits, false, "E(1009)");
	limits.max_message = 0;
	expect_script("81: 82: 81:a", &limits, false, "T() B() E(1009)");

	/* A limit that shrinks under an unfinished message. */
	struct ws_reader r;
	struct ws_message m;
	struct bytes b = { NULL, 0, 0 };
	size_t used;

	put_script(&b, "01*500", true);
	ws_reader_init(&r, false);
	assert_int_equal(ws_reader_next(&r, &server, b.p, b.n, &used, &m), WS_EVENT_NEED_MORE);
	b.n = 0;
	put_script(&b, "80:", true);
	limits = (struct ws_limits){ .max_message = 100, .max_fragments = 100 };
	assert_int_equal(ws_reader_next(&r, &limits, b.p, b.n, &used, &m), WS_EVENT_ERROR);
	assert_int_equal(m.code, WS_CODE_TOO_BIG);
	ws_reader_fini(&r);
	bytes_free(&b);
}

static void
masks_by_role(void **state)
{
	static const struct ws_limits client = { .max_message = 65536, .max_fragments = 16,
		.client = true };
	struct bytes b = { NULL, 0, 0 };

	(void)state;
	expect_script("81:Hello 89:p 82*70 01:a 80:b 88=03e8", &client, false, NULL);
	expect_script("81:Hello 89:p 01:a 80:b 88=0fa9526570", &client, false,
	    "T(Hello) P(p) T(ab) C(4009,Rep)");
	put_script(&b, "81:Hello", false);
	expect_input("a client without mask", &b, &server, false, "E(1002)");
	b.n = 0;
	put_script(&b, "89:", false);
	expect_input("a ping without mask", &b, &server, false, "E(1002)");
	b.n = 0;
	put_script(&b, "81:Hello", true);
	expect_input("a server with mask", &b, &client, false, "E(1002)");
	bytes_free(&b);
}

/* A whole frame is given from the caller's buffer, and an idle reader owns nothing. */
static void
in_place(void **state)
{
	struct ws_reader r;
	struct ws_message m;
	struct bytes b = { NULL, 0, 0 };
	size_t used;

	(void)state;
	printf("# sizeof(struct ws_reader) is %zu\n", sizeof(r));
	assert_true(sizeof(r) <= 64);
	put_script(&b, "81:Hello 89:ping 01:a", true);
	ws_reader_init(&r, false);
	assert_int_equal(ws_reader_next(&r, &server, b.p, b.n, &used, &m), WS_EVENT_TEXT);
	assert_int_equal(used, 11);
	assert_ptr_equal(m.data, b.p + 6);
	assert_memory_equal(m.data, "Hello", 5);
	assert_int_equal(ws_reader_memory(&r), 0);
	assert_false(ws_reader_unfinished(&r));
	assert_int_equal(ws_reader_next(&r, &server, b.p + 11, b.n - 11, &used, &m), WS_EVENT_PING);
	assert_ptr_equal(m.data, b.p + 17);
	assert_int_equal(ws_reader_memory(&r), 0);
	assert_int_equal(ws_reader_next(&r, &server, b.p + 21, b.n - 21, &used, &m),
	    WS_EVENT_NEED_MORE);
	assert_true(ws_reader_unfinished(&r));
	assert_in_range(ws_reader_memory(&r), 1, 256);

	b.n = 0;
	put_script(&b, "80:b", true);
	assert_int_equal(ws_reader_next(&r, &server, b.p, b.n, &used, &m), WS_EVENT_TEXT);
	assert_memory_equal(m.data, "ab", 2);
	assert_false(ws_reader_unfinished(&r));
	assert_int_equal(ws_reader_next(&r, &server, NULL, 0, &used, &m), WS_EVENT_NEED_MORE);
	assert_int_equal(ws_reader_memory(&r), 0);
	ws_reader_fini(&r);
	bytes_free(&b);
}

/* An announced length alone takes no memory. */
static void
nothing_for_an_announced_length(void **state)
{
	static const struct ws_limits limits = { .max_message = WS_MESSAGE_MAX, .max_fragments = 9 };
	uint8_t head[] = { 0x82, 0xff, 0, 0, 0, 0, 0x3f, 0xff, 0xff, 0xff, 1, 2, 3, 4, 'x', 'y' };
	struct ws_reader r;
	struct ws_message m;
	size_t used;

	(void)state;
	ws_reader_init(&r, false);
	assert_int_equal(ws_reader_next(&r, &limits, head, sizeof(head), &used, &m),
	    WS_EVENT_NEED_MORE);
	assert_in_range(ws_reader_memory(&r), 1, 256);
	ws_reader_fini(&r);
	assert_int_equal(ws_reader_memory(&r), 0);
}

/* Random streams, mostly right and some of them damaged. */
static void
put_random_payload(struct bytes *b, uint8_t first, uint32_t *seed, bool masked)
{
	static const char *const texts[] = { "a", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x94\x91",
		"key ", "\xed\x9f\xbf", "\xef\xbf\xbf" };
	struct bytes p = { NULL, 0, 0 };
	size_t n = ws_random(seed) % 40;

	if (ws_random(seed) % 8 == 0)
		n = ws_random(seed) % 400;
	if ((first & 15) >= 8 && n > 20)
		n = 20;
	while (n-- > 0) {
		const char *t = texts[ws_random(seed) % COUNT(texts)];

		bytes_put(&p, t, strlen(t));
	}
	/* Cut somewhere: the next fragment may go on with it, or not. */
	if (p.n > 0 && ws_random(seed) % 4 == 0)
		p.n -= ws_random(seed) % p.n;
	if ((first & 15) == 8 && p.n >= 2)
		p.p[0] = 0x03, p.p[1] = 0xe8 + ws_random(seed) % 6;
	put_frame(b, first, p.p, p.n, masked);
	bytes_free(&p);
}

static void
random_streams(void **state)
{
	unsigned errors = 0;

	(void)state;
	for (uint32_t round = 1; round <= 3000; round++) {
		struct ws_limits limits = { .max_message = 900, .max_fragments = 6,
			.client = round % 5 == 0 };
		uint32_t seed = round * 2654435761u;
		struct bytes b = { NULL, 0, 0 };
		bool open = false;
		char name[64], *want, *got;

		for (unsigned i = ws_random(&seed) % 12 + 1; i > 0; i--) {
			static const uint8_t control[] = { 0x89, 0x8a, 0x89, 0x8a, 0x88 };
			uint8_t first = ws_random(&seed) % 2 ? 0x02 : 0x01;

			if (ws_random(&seed) % 4 == 0) {
				first = control[ws_random(&seed) % COUNT(control)];
			} else {
				if (open)
					first = 0;
				open = ws_random(&seed) % 3 == 0;
				first |= open ? 0 : WS_FIN;
			}
			put_random_payload(&b, first, &seed, !limits.client);
		}
		if (ws_random(&seed) % 3 == 0)
			b.p[ws_random(&seed) % b.n] ^= (uint8_t)(1u << ws_random(&seed) % 8);

		snprintf(name, sizeof(name), "random stream %u", round);
		want = trace_reference(b.p, b.n, &limits, false);
		errors += strstr(want, "E(") != NULL;
		expect_cut(name, &b, &limits, false, (struct cuts){ 0, 0, 0 }, want);
		expect_cut(name, &b, &limits, false, (struct cuts){ 0, 0, 1 }, want);
		for (unsigned i = 0; i < 10; i++) {
			struct cuts cuts = { ws_random(&seed) % b.n, ws_random(&seed) % b.n,
				ws_random(&seed) % 90 };

			got = trace_run(b.p, b.n, &limits, false, cuts);
			if (strcmp(got, want) != 0)
				fail_msg("%s cut at %zu, %zu, every %zu:\n got  %s\n want %s", name,
				    cuts.cut1, cuts.cut2, cuts.step, got, want);
			free(got);
		}
		free(want);
		bytes_free(&b);
	}
	printf("# 3000 random streams, %u with an error\n", errors);
	assert_in_range(errors, 300, 2700);
}

#ifdef HAVE_ZLIB
/* 12 and 13: compressed messages, whole and in frames. */
static void
put_compressed(struct bytes *b, struct ws_deflate *z, unsigned opcode, const void *text, size_t n,
    size_t piece)
{
	const uint8_t *p;
	size_t len;

	if (ws_deflate_message(z, 15, text, n, &p, &len) != 0) {
		put_frame(b, (uint8_t)(WS_FIN | opcode), text, n, true);
		return;
	}
	for (uint8_t first = (uint8_t)(WS_RSV1 | opcode);; first = 0) {
		size_t part = piece != 0 && piece < len ? piece : len;

		put_frame(b, first | (part == len ? WS_FIN : 0), p, part, true);
		p += part, len -= part;
		if (len == 0)
			return;
	}
}

static void
compressed_messages(void **state)
{
	static const size_t sizes[] = { 0, 1, 16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536,
		131072 };
	struct ws_deflate *z = ws_deflate_new(1);
	struct ws_limits limits = { .max_message = 131072, .max_fragments = 2000,
		.inflate = ws_inflate_new() };
	struct bytes text = { NULL, 0, 0 };

	(void)state;
	for (unsigned i = 0; text.n < 131072; i++) {
		char line[64];

		bytes_put(&text, line, (size_t)snprintf(line, sizeof(line),
		    "{\"n\":%u,\"t\":\"k\xc3\xa4se %x\"}\n", i, i * 2654435761u));
	}
	for (size_t i = 0; i < COUNT(sizes); i++) {
		size_t piece = sizes[i] / 37 + 1, n = sizes[i];
		struct bytes b = { NULL, 0, 0 };

		while (n > 0 && (text.p[n] & 0xc0) == 0x80)
			n--;
		put_compressed(&b, z, WS_OP_TEXT, text.p, n, 0);
		put_compressed(&b, z, WS_OP_BINARY, text.p, sizes[i], piece);
		put_script(&b, "89:ping", true);
		if (sizes[i] <= 16384) {
			expect_input("compressed", &b, &limits, true, NULL);
		} else {
			char *want = trace_reference(b.p, b.n, &limits, true);

			assert_null(strstr(want, "E("));
			expect_cut("compressed", &b, &limits, true, (struct cuts){ 0, 0, 0 }, want);
			expect_cut("compressed", &b, &limits, true, (struct cuts){ 0, 0, 100 }, want);
			free(want);
		}
		bytes_free(&b);
	}

	/* RFC 7692 section 7.2.3: the examples. */
	expect_script("c1=f248cdc9c90700", &limits, true, "T(Hello)");
	expect_script("41=f248cd 89:p 80=c9c90700", &limits, true, "P(p) T(Hello)");
	expect_script("c1=000500faff48656c6c6f00", &limits, true, "T(Hello)");
	expect_script("c1=f348cdc9c9070000", &limits, true, "T(Hello)");
	expect_script("c1=f24805000000ffffcac9c90700", &limits, true, "T(Hello)");
	expect_script("c1=00", &limits, true, "T()");
	expect_script("c1:", &limits, true, "T()");
	/* Not compressed, though it was negotiated. */
	expect_script("81:Hello c1=f248cdc9c90700", &limits, true, "T(Hello) T(Hello)");
	/* The bit where it must not be. */
	expect_script("41=f248cd c0=c9c90700", &limits, true, "E(1002)");
	expect_script("c9:", &limits, true, "E(1002)");
	expect_script("c1=f248cdc9c90700", &limits, false, "E(1002)");
	expect_script("a1=f248cdc9c90700", &limits, true, "E(1002)");
	expect_script("91=f248cdc9c90700", &limits, true, "E(1002)");
	expect_script("d1=f248cdc9c90700", &limits, true, "E(1002)");
	/* No deflate stream; one that is cut; text that is not UTF-8. */
	expect_script("c1=ffffffff", &limits, true, "E(1002)");
	expect_script("c1=f248cd", &limits, true, "E(1002)");
	expect_script("c1=000100feffff00", &limits, true, "E(1007)");
	expect_script("c2=000100feffff00", &limits, true, "B(\\ff)");

	limits.max_message = 5;
	expect_script("c1=f248cdc9c90700", &limits, true, "T(Hello)");
	limits.max_message = 4;
	expect_script("c1=f248cdc9c90700", &limits, true, "E(1009)");

	bytes_free(&text);
	ws_inflate_free(&limits.inflate);
	ws_deflate_free(&z);
}
#endif

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_and_pings),
		cmocka_unit_test(reserved_bits_and_opcodes),
		cmocka_unit_test(fragments),
		cmocka_unit_test(utf8_in_messages),
		cmocka_unit_test(errors_come_at_once),
		cmocka_unit_test(close_frames),
		cmocka_unit_test(big_messages),
		cmocka_unit_test(limits_hold),
		cmocka_unit_test(masks_by_role),
		cmocka_unit_test(in_place),
		cmocka_unit_test(nothing_for_an_announced_length),
		cmocka_unit_test(random_streams),
#ifdef HAVE_ZLIB
		cmocka_unit_test(compressed_messages),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

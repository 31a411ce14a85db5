/*
 * reply.c: answers to those who asked.
 */
#include "store/desk.h"

void
reply_json(struct desk *k, uint64_t request, uint64_t ref, unsigned http_status,
    struct slice body)
{
	struct msg_store_reply m = { .request = request, .ref = ref, .http_status = http_status,
	    .body_json = body };

	if (request != 0)
		post_to_ref(k, store_reply, &m);
}

void
reply_event(struct desk *k, uint64_t request, uint64_t ref, struct slice body, unsigned event)
{
	struct msg_store_reply m = { .request = request, .ref = ref, .http_status = 200, .body_json = body };

	if (event == 0) {
		post_to_ref(k, store_reply, &m);
		return;
	}
	m.cursor = CURSOR_ROOM;
	buf_clear(&k->pack);
	msg_pack_store_reply(&k->pack, &m);
	k->post_event(k, ref_slot(ref), MSG_store_reply, buf_slice(&k->pack), event);
}

void
reply_error(struct desk *k, uint64_t request, uint64_t ref, enum error_code code,
    const char *field, const char *message)
{
	struct msg_store_reply m = {
		.request = request, .ref = ref, .http_status = (uint32_t)error_status(code),
		.code = code,
		.field = slice_of(field), .message = slice_of(message != NULL ? message :
		error_text(code))
	};

	if (request != 0 || ref != REF_NONE)
		post_to_ref(k, store_reply, &m);
}

/*
 * msg.h: the records that processes send each other, as structs.
 *
 * msg.def is the list.  Each record has a struct msg_NAME; msg_pack_NAME() turns it into bytes for
 * a mailbox and msg_unpack_NAME() back.
 * The slices of an unpacked struct point into the record.
 */
#ifndef BELAY_MSG_MSG_H
#define BELAY_MSG_MSG_H

#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/uuid.h"

/* So long a question to storage may take; then whoever asked is told that it can't be answered. */
#define MSG_ANSWER_MS	30000

enum msg_kind {
	MSG_none,
#define MSG(name, sender, receiver, reply, what, fields) MSG_##name,
#include "msg/msg.def"
#undef MSG
	MSG_KIND_COUNT
};

#define U8(f)	uint8_t f;
#define U32(f)	uint32_t f;
#define U64(f)	uint64_t f;
#define I64(f)	int64_t f;
#define REF(f)	uint64_t f;
#define UUID(f)	uint8_t f[16];
#define HASH(f)	uint8_t f[32];
#define STR(f)	struct slice f;
#define MSG(name, sender, receiver, reply, what, fields) struct msg_##name { fields };
#include "msg/msg.def"
#undef MSG
#undef U8
#undef U32
#undef U64
#undef I64
#undef REF
#undef UUID
#undef HASH
#undef STR

/* Appends the record's bytes to out. */
#define MSG(name, sender, receiver, reply, what, fields) \
	void msg_pack_##name(struct buf *out, const struct msg_##name *m); \
	/* 0, or -1 when the bytes are not exactly one such record. */ \
	int msg_unpack_##name(struct msg_##name *m, const uint8_t *p, size_t len);
#include "msg/msg.def"
#undef MSG

/* The members that many records have, whichever this one has; else 0 and none. */
struct msg_whose {
	uint64_t request, ref;
	struct slice tenant, user;
};
#define MSG(name, sender, receiver, reply, what, fields) \
	struct msg_whose msg_whose_##name(const struct msg_##name *m);
#include "msg/msg.def"
#undef MSG

/* "device_auth"; never NULL. */
const char *msg_kind_name(unsigned kind);

/* Where a dashboard begins, or goes on. */
enum resume_from {
	RESUME_CURSOR,		/* behind the cursor */
	RESUME_NOW,		/* behind the newest event there is: it misses nothing */
	RESUME_ON		/* behind the place `after`: a later part */
};

/* What a publication means for the connection `ref`. */
enum publish_to {
	PUBLISH_ALL,		/* nothing special; ref is REF_NONE */
	PUBLISH_WITH_REF,	/* ref gets it too, once, whatever its filter */
	/* the same, and for ref it is the answer to `request` (an `re` is added) */
	PUBLISH_ANSWER,
	PUBLISH_NOT_REF		/* ref does not get it (it was told otherwise) */
};

/* Who hears of it beside the audience that it names. */
enum publish_admins {
	ADMINS_NONE,
	ADMINS_AND_MEMBERS,	/* all who may view the whole tenant: plain members too where they may */
	ADMINS_ALONE		/* those with the role: it is for who may control */
};

enum publish_kind {
	PUBLISH_LOSSLESS,	/* may not be lost: a slow consumer is closed with 4008 */
	PUBLISH_CONFLATED	/* telemetry: the newest of each device is kept */
};

/* What is to be done with users' connections.  HAND: as SEND, to all services of the tenant. */
enum user_task {
	USER_TASK_SEND, USER_TASK_COUNT, USER_TASK_KICK, USER_TASK_STATS, USER_TASK_TRAFFIC, USER_TASK_HAND
};

/* What a device says of a command, and where the command goes by it. */
enum ack_status { ACK_ACCEPTED, ACK_EXECUTED, ACK_FAILED, ACK_UNKNOWN };

#endif

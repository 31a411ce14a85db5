/*
 * api_command.h: commands by REST: asked for, waited for, called off.
 */
#ifndef BELAY_GATEWAY_API_COMMAND_H
#define BELAY_GATEWAY_API_COMMAND_H

#include "base/slice.h"

struct ask;
struct conn;
struct gateway;

/* POST /api/command, …/open; DELETE /api/command/:id. */
void api_command(struct gateway *g, struct conn *c);
void api_cancel(struct gateway *g, struct conn *c);
/*
 * A command that a request asked for, as it stands now.  a: the question, for the first
 * answer; NULL later.
 */
void api_command_changed(struct gateway *g, struct conn *c, const struct ask *a, struct slice command_json);
/* ?wait=1: asks a reader how the command is whose end the request in hand waits for. */
void api_look_at_command(struct gateway *g, struct conn *c);

#endif

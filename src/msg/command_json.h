/*
 * command_json.h: what a command's object, as storage wrote it, says of the command.
 */
#ifndef BELAY_MSG_COMMAND_JSON_H
#define BELAY_MSG_COMMAND_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/uuid.h"

/* Whether it has ended. */
enum command_end { COMMAND_RUNS, COMMAND_ENDED, COMMAND_TIMED_OUT };
enum command_end command_json_end(struct slice command_json);
/* Its id; false: it says none. */
bool command_json_id(struct slice command_json, uint8_t id[UUID_LEN]);

#endif

/*
 * command_json.c: reads the object of a command.  Text that we wrote ourselves: it is valid.
 */
#include "base/json.h"
#include "msg/command_json.h"

enum command_end
command_json_end(struct slice command_json)
{
	struct slice status = json_raw(command_json, "status");

	if (slice_is(status, "\"timeout\""))
		return COMMAND_TIMED_OUT;
	if (slice_is(status, "\"queued\"") || slice_is(status, "\"sent\"") ||
	    slice_is(status, "\"accepted\""))
		return COMMAND_RUNS;
	return COMMAND_ENDED;
}

bool
command_json_id(struct slice command_json, uint8_t id[UUID_LEN])
{
	struct slice text = json_raw(command_json, "commandId");

	return text.len == UUID_TEXT_LEN + 2 && uuid_parse((struct slice){ text.p + 1,
	    UUID_TEXT_LEN }, id) == 0;
}

/*
 * ctl_send.c: belayctl send: one command to a device.  The exit status says
 * what is known about it at the end.
 */
#include <stdio.h>
#include <string.h>

#include "base/uuid.h"
#include "belayctl/ctl.h"

static int
send_outcome(json_t *command)
{
	const char *status = ctl_text(command, "status"), *outcome = ctl_text(command, "outcome");

	if (strcmp(status, "executed") == 0)
		return CTL_OK;
	if (strcmp(outcome, "not_sent") == 0)
		return CTL_NOT_SENT;
	if (strcmp(status, "failed") == 0)
		return CTL_FAILED;
	return CTL_UNCONFIRMED;
}

int
ctl_send_main(struct ctl *ctl, int argc, char **argv)
{
	const char *what[2], *params = NULL, *only_if = NULL, *key = NULL;
	int64_t timeout_ms = 30000, queue_ms = 0;
	char generated[UUID_TEXT_LEN + 1];
	bool wait = false;
	const struct ctl_opt opts[] = {
		{ "params", CTL_TEXT, &params, "the command's parameters, a JSON object" },
		{ "only-if", CTL_TEXT, &only_if, "send only if this holds, a JSON object" },
		{ "timeout", CTL_MS, &timeout_ms, "how long the device may take (30s)" },
		{ "queue", CTL_MS, &queue_ms, "how long it may wait for an offline device (0)" },
		{ "key", CTL_TEXT, &key, "idempotency key: the same again does not send a second "
		    "time" },
		{ "wait", CTL_FLAG, &wait, "wait for the end" },
		{ NULL, CTL_FLAG, NULL, NULL }
	};
	json_t *body, *value, *answer, *command;
	uint8_t id[UUID_LEN];
	json_error_t err;
	int status, http;

	if (ctl_opts(argc, argv, opts, what, 2) != 2)
		ctl_die(CTL_USAGE, "send wants a device and a command");
	body = json_pack("{s:s, s:s, s:I, s:I}", "deviceId", what[0], "command", what[1],
	    "timeoutMs", (json_int_t)timeout_ms, "queueMs", (json_int_t)queue_ms);
	if (body == NULL)
		ctl_die(CTL_USAGE, "the device's id or the command is not UTF-8");
	if (params != NULL) {
		if ((value = json_loads(params, JSON_REJECT_DUPLICATES, &err)) == NULL ||
		    !json_is_object(value))
			ctl_die(CTL_USAGE, "--params is not a JSON object: %s",
			    value == NULL ? err.text : "");
		json_object_set_new(body, "params", value);
	}
	if (only_if != NULL) {
		if ((value = json_loads(only_if, JSON_REJECT_DUPLICATES, &err)) == NULL ||
		    !json_is_object(value))
			ctl_die(CTL_USAGE, "--only-if is not a JSON object: %s",
			    value == NULL ? err.text : "");
		json_object_set_new(body, "onlyIf", value);
	}
	/* The request may be repeated when a kept connection breaks: a key makes that harmless. */
	if (key == NULL) {
		uuid_new(id);
		uuid_format(id, generated);
		key = generated;
	}
	json_object_set_new(body, "idempotencyKey", json_string(key));
	if (ctl->token != NULL && ctl->tenant != NULL)
		json_object_set_new(body, "tenantId", json_string(ctl->tenant));
	http = ctl_rest(ctl, "POST", wait ? "/api/command?wait=1" : "/api/command", body,
	    wait ? timeout_ms + queue_ms + 15000 : 15000, &answer);
	command = ctl_get(answer, "command");
	if (json_is_object(command)) {
		ctl_print(command, CTL_JSON_PAGE);
		status = wait ? send_outcome(command) : CTL_OK;
	} else {
		status = ctl_refused(http, answer);
	}
	json_decref(answer);
	return status;
}

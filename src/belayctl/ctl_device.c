/*
 * ctl_device.c: belayctl device: registers devices, lists them, gives them new
 * tokens, deletes them.
 */
#include <stdio.h>
#include <string.h>

#include "belayctl/ctl.h"
#include "http/uri.h"

#define DEVICE_TIMEOUT_MS 15000

static void
device_path(struct ctl *ctl, struct buf *path, const char *id, const char *after)
{
	buf_puts(path, "/api/device/");
	uri_encode(path, slice_of(id));
	buf_puts(path, after);
	if (ctl->token != NULL && ctl->tenant != NULL)
		ctl_query(path, "tenantId", ctl->tenant);
	buf_putc(path, '\0');
	path->len--;
}

static int
device_add(struct ctl *ctl, int argc, char **argv)
{
	const char *id[1] = { NULL }, *name = NULL, *type = NULL, *owner = NULL;
	struct ctl_texts tags = { .n = 0 };
	bool quiet = false;
	const struct ctl_opt opts[] = {
		{ "name", CTL_TEXT, &name, "its name (the id)" },
		{ "type", CTL_TEXT, &type, "its type (door-lock)" },
		{ "owner", CTL_TEXT, &owner, "the user whom it belongs to (who asks)" },
		{ "tag", CTL_TEXTS, &tags, "may be repeated" },
		{ "quiet", CTL_FLAG, &quiet, "print the device token alone" },
		{ NULL, CTL_FLAG, NULL, NULL }
	};
	int n = ctl_opts(argc, argv, opts, id, 1), status;
	json_t *body = json_object(), *answer;

	if (n == 1)
		json_object_set_new(body, "deviceId", json_string(id[0]));
	json_object_set_new(body, "name", json_string(name != NULL ? name : n == 1 ? id[0] : "device"));
	if (type != NULL)
		json_object_set_new(body, "deviceType", json_string(type));
	if (tags.n != 0) {
		json_t *list = json_array();

		for (unsigned i = 0; i < tags.n; i++)
			json_array_append_new(list, json_string(tags.v[i]));
		json_object_set_new(body, "tags", list);
	}
	if (ctl->token != NULL) {
		if (owner != NULL)
			json_object_set_new(body, "ownerId", json_string(owner));
		if (ctl->tenant != NULL)
			json_object_set_new(body, "tenantId", json_string(ctl->tenant));
	} else if (owner != NULL) {
		/* Who registers owns: the token made here names the owner. */
		ctl->user = owner;
	}
	status = ctl_rest(ctl, "POST", "/api/device/register", body, DEVICE_TIMEOUT_MS, &answer);
	if (status != 201) {
		status = ctl_refused(status, answer);
	} else if (quiet) {
		puts(ctl_text(answer, "deviceToken"));
		status = CTL_OK;
	} else {
		ctl_print(answer, CTL_JSON_PAGE);
		status = CTL_OK;
	}
	json_decref(answer);
	return status;
}

static void
device_row(json_t *d)
{
	const char *seen = ctl_text(d, "presence.lastSeen");

	printf("%-24s %-8s %-16s %-16s %-24s %s\n", ctl_text(d, "deviceId"),
	    ctl_text(d, "presence.status"), ctl_text(d, "deviceType"), ctl_text(d, "ownerId"),
	    *seen != '\0' ? seen : "-", ctl_text(d, "name"));
}

static int
device_list(struct ctl *ctl, int argc, char **argv)
{
	const char *filter[4] = { NULL, NULL, NULL, NULL };
	static const char *const names[4] = { "status", "type", "tag", "q" };
	bool as_json = false, titled = false;
	const struct ctl_opt opts[] = {
		{ "status", CTL_TEXT, &filter[0], "online, offline..." },
		{ "type", CTL_TEXT, &filter[1], "of this type" },
		{ "tag", CTL_TEXT, &filter[2], "with this tag" },
		{ "q", CTL_TEXT, &filter[3], "whose name or id holds this" },
		{ "json", CTL_FLAG, &as_json, "as the server tells it, one device a line" },
		{ NULL, CTL_FLAG, NULL, NULL }
	};
	char *cursor = NULL;
	int status;

	ctl_opts(argc, argv, opts, NULL, 0);
	do {
		struct buf path = BUF_INIT;
		json_t *answer, *d;
		size_t i;

		buf_puts(&path, "/api/device?limit=500");
		for (int k = 0; k < 4; k++)
			if (filter[k] != NULL)
				ctl_query(&path, names[k], filter[k]);
		if (ctl->token != NULL && ctl->tenant != NULL)
			ctl_query(&path, "tenantId", ctl->tenant);
		if (cursor != NULL)
			ctl_query(&path, "cursor", cursor);
		buf_putc(&path, '\0');
		status = ctl_rest(ctl, "GET", path.data, NULL, DEVICE_TIMEOUT_MS, &answer);
		buf_fini(&path);
		free(cursor);
		cursor = NULL;
		if (status != 200) {
			status = ctl_refused(status, answer);
			json_decref(answer);
			return status;
		}
		if (!as_json && !titled)
			printf("%-24s %-8s %-16s %-16s %-24s %s\n", "DEVICE", "STATUS", "TYPE", "OWNER",
			    "LAST SEEN", "NAME");
		titled = true;
		json_array_foreach(ctl_get(answer, "devices"), i, d) {
			if (as_json) {
				ctl_print(d, CTL_JSON_LINE);
			} else {
				device_row(d);
			}
		}
		if (*ctl_text(answer, "nextCursor") != '\0')
			cursor = strdup(ctl_text(answer, "nextCursor"));
		json_decref(answer);
	} while (cursor != NULL);
	return CTL_OK;
}

/* show, rotate, delete: one device, one request. */
static int
device_one(struct ctl *ctl, int argc, char **argv, const char *method, const char *after)
{
	const struct ctl_opt opts[] = { { NULL, CTL_FLAG, NULL, NULL } };
	struct buf path = BUF_INIT;
	const char *id[1];
	json_t *answer;
	int status;

	if (ctl_opts(argc, argv, opts, id, 1) != 1)
		ctl_die(CTL_USAGE, "%s wants the id of a device", argv[0]);
	device_path(ctl, &path, id[0], after);
	status = ctl_rest(ctl, method, path.data, NULL, DEVICE_TIMEOUT_MS, &answer);
	buf_fini(&path);
	if (status == 200) {
		ctl_print(answer, CTL_JSON_PAGE);
		status = CTL_OK;
	} else if (status == 204) {
		status = CTL_OK;
	} else {
		status = ctl_refused(status, answer);
	}
	json_decref(answer);
	return status;
}

int
ctl_device_main(struct ctl *ctl, int argc, char **argv)
{
	static char command[24];		/* what sentences call it */
	const char *verb = argc > 1 ? argv[1] : "";

	snprintf(command, sizeof(command), "device %.10s", verb);
	argc--;
	argv++;
	if (argc > 0)
		argv[0] = command;
	if (strcmp(verb, "add") == 0)
		return device_add(ctl, argc, argv);
	if (strcmp(verb, "list") == 0)
		return device_list(ctl, argc, argv);
	if (strcmp(verb, "show") == 0)
		return device_one(ctl, argc, argv, "GET", "");
	if (strcmp(verb, "rotate") == 0)
		return device_one(ctl, argc, argv, "POST", "/token");
	if (strcmp(verb, "delete") == 0)
		return device_one(ctl, argc, argv, "DELETE", "");
	if (strcmp(verb, "-h") == 0 || strcmp(verb, "--help") == 0)
		ctl_help("device", NULL);
	ctl_die(CTL_USAGE, "device wants one of add, list, show, rotate, delete");
}

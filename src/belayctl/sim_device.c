/*
 * sim_device.c: a simulated door lock that keeps the protocol's promise: it
 * runs one command id once, also when the command comes again after a
 * reconnect, and answers `reconcile` with what it knows.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/must.h"
#include "belayctl/sim_device.h"

void
sim_device_init(struct sim_device *d, uint32_t seed)
{
	memset(d, 0, sizeof(*d));
	d->random = seed != 0 ? seed : 1;
	d->locked = true;
	d->temperature = 21;
	d->after_ms = -1;
}

/* xorshift32: good enough to choose what fails. */
static double
sim_random(struct sim_device *d)
{
	d->random ^= d->random << 13;
	d->random ^= d->random >> 17;
	d->random ^= d->random << 5;
	return d->random / 4294967296.0;
}

static void
sim_say(struct sim_device *d, json_t *m)
{
	char *text = json_dumps(m, JSON_COMPACT | JSON_REAL_PRECISION(6));

	must(text != NULL);
	d->send(d->arg, text, strlen(text));
	free(text);
	json_decref(m);
}

static void
sim_ack(struct sim_device *d, const char *id, const char *status, json_t *result, const char *error)
{
	json_t *payload = json_pack("{s:s, s:s}", "commandId", id, "status", status);

	if (result != NULL)
		json_object_set_new(payload, "result", result);
	if (error != NULL)
		json_object_set_new(payload, "error", json_string(error));
	sim_say(d, json_pack("{s:s, s:o}", "type", "command_ack", "payload", payload));
}

static void
sim_ack_run(struct sim_device *d, const struct sim_run *r)
{
	switch (r->state) {
	case SIM_RUNNING:
		sim_ack(d, r->id, "accepted", NULL, NULL);
		break;
	case SIM_EXECUTED:
		sim_ack(d, r->id, "executed", json_pack("{s:b}", "simulated", 1), NULL);
		break;
	case SIM_FAILED:
		sim_ack(d, r->id, "failed", NULL, "simulated failure");
		break;
	case SIM_FREE:
		break;
	}
}

static struct sim_run *
sim_find(struct sim_device *d, const char *id)
{
	for (unsigned i = 0; i < SIM_RUNS; i++)
		if (d->runs[i].state != SIM_FREE && strcmp(d->runs[i].id, id) == 0)
			return &d->runs[i];
	return NULL;
}

static void
sim_command(struct sim_device *d, json_t *payload, int64_t now_ms)
{
	const char *id = json_string_value(json_object_get(payload, "commandId"));
	const char *command = json_string_value(json_object_get(payload, "command"));
	struct sim_run *r;

	if (id == NULL || strlen(id) > UUID_TEXT_LEN || command == NULL)
		return;
	if ((r = sim_find(d, id)) != NULL) {
		d->again++;
		d->note(d->arg, "command again", id);
		sim_ack_run(d, r);
		return;
	}
	r = &d->runs[d->next++ % SIM_RUNS];
	if (r->state != SIM_RUNNING)
		d->running++;
	snprintf(r->id, sizeof(r->id), "%s", id);
	r->state = SIM_RUNNING;
	r->due_ms = now_ms + d->ack_delay_ms;
	d->commands++;
	d->note(d->arg, "command", command);
	if (strcmp(command, "unlock_door") == 0 || strcmp(command, "unlock") == 0)
		d->locked = false;
	else if (strcmp(command, "lock_door") == 0 || strcmp(command, "lock") == 0)
		d->locked = true;
	/* Something that takes a while is accepted first. */
	if (d->ack_delay_ms > 0)
		sim_ack_run(d, r);
}

static void
sim_reconcile(struct sim_device *d, json_t *ids)
{
	const char *id;
	struct sim_run *r;
	json_t *v;
	size_t i;

	json_array_foreach(ids, i, v) {
		if ((id = json_string_value(v)) == NULL)
			continue;
		r = sim_find(d, id);
		d->note(d->arg, r != NULL ? "reconcile: known" : "reconcile: unknown", id);
		if (r != NULL)
			sim_ack_run(d, r);
		else
			sim_ack(d, id, "unknown", NULL, NULL);
	}
}

void
sim_device_hear(struct sim_device *d, struct slice text, int64_t now_ms)
{
	json_t *m = json_loadb(text.p, text.len, 0, NULL), *payload = json_object_get(m, "payload");
	const char *type = json_string_value(json_object_get(m, "type"));

	if (type == NULL) {
		d->note(d->arg, "not understood", "a message without type");
	} else if (strcmp(type, "command") == 0) {
		sim_command(d, payload, now_ms);
		sim_device_work(d, now_ms);
	} else if (strcmp(type, "reconcile") == 0) {
		sim_reconcile(d, json_object_get(payload, "commandIds"));
	} else if (strcmp(type, "reconnect") == 0) {
		d->after_ms = json_integer_value(json_object_get(payload, "afterMs"));
	} else if (strcmp(type, "error") == 0) {
		const char *code = json_string_value(json_object_get(payload, "code"));

		d->note(d->arg, "error", code != NULL ? code : "?");
	} else if (strcmp(type, "connected") == 0) {
		d->note(d->arg, "connected", "");
	}
	json_decref(m);
}

int64_t
sim_device_work(struct sim_device *d, int64_t now_ms)
{
	int64_t next = -1;

	for (unsigned i = 0; i < SIM_RUNS && d->running != 0; i++) {
		struct sim_run *r = &d->runs[i];

		if (r->state != SIM_RUNNING)
			continue;
		if (r->due_ms <= now_ms) {
			d->running--;
			r->state = sim_random(d) < d->fail_rate ? SIM_FAILED : SIM_EXECUTED;
			d->note(d->arg, r->state == SIM_EXECUTED ? "executed" : "failed", r->id);
			sim_ack_run(d, r);
		} else if (next == -1 || r->due_ms < next) {
			next = r->due_ms;
		}
	}
	return next;
}

void
sim_device_heartbeat(struct sim_device *d)
{
	sim_say(d, json_pack("{s:s, s:{s:i, s:i}}", "type", "heartbeat", "payload",
	    "battery", 60 + (int)(sim_random(d) * 40), "rssi", -80 + (int)(sim_random(d) * 30)));
}

void
sim_device_telemetry(struct sim_device *d, int64_t now_ms)
{
	char at[CLOCK_TEXT_LEN + 1];

	d->temperature += sim_random(d) - 0.5;
	clock_format(now_ms, at);
	sim_say(d, json_pack("{s:s, s:{s:s, s:{s:f, s:b}}}", "type", "telemetry", "payload", "at", at,
	    "data", "temperature", (double)(int)(d->temperature * 10) / 10, "locked", d->locked));
}

void
sim_device_status(struct sim_device *d)
{
	sim_say(d, json_pack("{s:s, s:{s:s, s:s}}", "type", "status", "payload",
	    "door", d->locked ? "closed" : "open", "firmware", "sim-1.0"));
}

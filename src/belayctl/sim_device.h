/*
 * sim_device.h: one simulated device: what it does with what it hears.
 *
 * It knows no socket and no clock: it is told what came and what time it is,
 * and says through its hooks what it wants to send.  Thus it can be tested
 * alone.
 */
#ifndef BELAY_CTL_SIM_DEVICE_H
#define BELAY_CTL_SIM_DEVICE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/uuid.h"

/* Commands remembered: as many as could still be asked about. */
#define SIM_RUNS 128

enum sim_run_state { SIM_FREE, SIM_RUNNING, SIM_EXECUTED, SIM_FAILED };

struct sim_run {
	char id[UUID_TEXT_LEN + 1];
	enum sim_run_state state;
	int64_t due_ms;			/* when it will be done */
};

struct sim_device {
	/* The program's. */
	void (*send)(void *arg, const char *text, size_t len);
	void (*note)(void *arg, const char *what, const char *detail);
	void *arg;
	int64_t ack_delay_ms;
	double fail_rate;		/* 0 to 1 */
	uint32_t random;		/* never 0 */

	/* Its own. */
	struct sim_run runs[SIM_RUNS];	/* a ring: the oldest is overwritten */
	unsigned next, running;
	bool locked;
	double temperature;
	int64_t after_ms;		/* of the last `reconnect`; -1 */
	uint64_t commands, again;	/* run; heard of again and not run again */
};

void sim_device_init(struct sim_device *d, uint32_t seed);
/* A message from the server. */
void sim_device_hear(struct sim_device *d, struct slice text, int64_t now_ms);
/* Finishes what is due; returns when the next will be, or -1. */
int64_t sim_device_work(struct sim_device *d, int64_t now_ms);
void sim_device_heartbeat(struct sim_device *d);
void sim_device_telemetry(struct sim_device *d, int64_t now_ms);
void sim_device_status(struct sim_device *d);

#endif

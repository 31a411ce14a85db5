/*
 * lib.h: what the load programs share: command lines, a loop of WebSocket
 * client connections, latency histograms, CPU time and memory of the server's
 * processes.
 *
 * A load program is the client half of a measurement.  It does as little work
 * as it can for each message, so that two cores are enough for both sides, and
 * what it reports first is the CPU time that the server's processes spent on a
 * unit of work: that figure holds on a busy machine, throughput does not.
 *
 * A fault of the set-up (no server, a refused token) ends the program with a
 * sentence and status 1; status 2 is a wrong command line.
 */
#ifndef BELAY_BENCH_LIB_H
#define BELAY_BENCH_LIB_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_SECOND 1000000000ull	/* ns */

uint64_t bench_now(void);		/* CLOCK_MONOTONIC, ns */
_Noreturn void bench_die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The end of a program that did its work: what it holds goes with the process. */
_Noreturn void bench_end(void);
void *bench_alloc(size_t n);		/* zeroed */

/* Command lines: "--name value" or "--name=value"; a BENCH_FLAG takes no value. */
enum bench_arg_kind { BENCH_FLAG, BENCH_UINT, BENCH_SECONDS, BENCH_TEXT, BENCH_PID };

struct bench_arg {
	const char *name;
	enum bench_arg_kind kind;
	void *value;		/* bool, unsigned, double, const char *, struct bench_procs */
	const char *help;
};

/* args ends with a row without name.  A row's value holds the default before. */
void bench_args(int argc, char **argv, const char *what, const struct bench_arg *args);

/* A log-linear histogram of nanoseconds: every value is kept to within 1/128. */
#define BENCH_HIST_SUB 128
struct bench_hist {
	uint64_t count, max, sum;
	uint64_t bucket[(64 - 6) * BENCH_HIST_SUB];
};

void bench_hist_add(struct bench_hist *h, uint64_t ns);
uint64_t bench_hist_at(const struct bench_hist *h, double quantile);	/* 0.99; 0 when empty */
/* Prints " p50_us=… p99_us=… p999_us=… max_us=…" without a line end. */
void bench_hist_print(const struct bench_hist *h);

/* The server's processes. */
#define BENCH_PROCS_MAX 128
struct bench_procs {
	unsigned nroots, n;
	int root[BENCH_PROCS_MAX];	/* as given */
	int pid[BENCH_PROCS_MAX];	/* with all descendants */
};

/* Looks up the descendants of the roots now; dies when a root is gone. */
void bench_procs_find(struct bench_procs *procs);
/* CPU time of all threads so far, user and system, ns (/proc/PID/task/TID/schedstat). */
uint64_t bench_procs_cpu(const struct bench_procs *procs);
/* Proportional set size of all together, bytes; each shared page is counted once. */
uint64_t bench_procs_pss(const struct bench_procs *procs);

/*
 * Connections.  One loop a process; all callbacks come from bench_loop_step().
 * A connection is memory of the program's, zeroed before its first use, and may
 * be opened again after it was closed.
 */
struct bench_loop;

enum bench_state { BENCH_CLOSED, BENCH_CONNECTING, BENCH_UPGRADING, BENCH_OPEN };

struct bench_conn {
	struct bench_loop *loop;
	int fd;
	uint8_t state;			/* enum bench_state */
	bool want_write;
	uint32_t index;			/* the program's */
	void *user;			/* the program's */
	uint64_t opened_at;		/* when connecting began, ns */
	char *in;			/* an unfinished frame; owned */
	uint32_t in_len, in_cap;
	char *out;			/* what the socket refused; owned */
	uint32_t out_off, out_len, out_cap;
	char *request;			/* until it was sent; owned */
};

struct bench_handler {
	void (*opened)(struct bench_conn *c);
	/* One text or binary frame; p is borrowed. */
	void (*message)(struct bench_conn *c, const char *p, size_t len);
	/* All that one read brought has been given; may be NULL. */
	void (*drained)(struct bench_conn *c);
	/*
	 * The end.  code: of the server's close frame, 0 without one; or the HTTP status of a refusal,
	 * or -errno.  text: the close reason, or the refusal's first line.
	 */
	void (*closed)(struct bench_conn *c, int code, const char *text, size_t len);
};

struct bench_loop {
	int epoll;
	const struct bench_handler *handler;
	struct sockaddr_in server;
	char host[64];			/* for the Host field */
	char *buf;
	unsigned sources, next_source;	/* source addresses 127.0.0.2 and up */
	uint64_t pings;			/* answered */
	uint64_t bytes_in;
};

#define BENCH_BUF_SIZE (256 * 1024)

/* address: "127.0.0.1:3000".  sources: how many source addresses to go round (0: leave it to the system). */
void bench_loop_init(struct bench_loop *l, const char *address, const struct bench_handler *h,
    unsigned sources, unsigned first_source);
/* Waits at most this long (0: not at all) and calls back.  Returns how many sockets were ready. */
int bench_loop_step(struct bench_loop *l, uint64_t wait_ns);

/* target: "/ws?x=y".  fields: further header fields, each with CRLF, or "". */
void bench_conn_open(struct bench_loop *l, struct bench_conn *c, const char *target,
    const char *fields);
/* Writes bytes that are whole frames already. */
void bench_conn_write(struct bench_conn *c, const void *p, size_t len);
/* Makes a text frame of it and writes that. */
void bench_conn_text(struct bench_conn *c, const char *text, size_t len);
void bench_conn_send_close(struct bench_conn *c);

/* A masked frame around payload into out (room for len + 14); returns its length. */
size_t bench_frame(char *out, const char *payload, size_t len);

/* belayd: tokens and registration. */
struct bench_belay {
	const char *address;		/* "127.0.0.1:3000" */
	const char *secret_file;	/* auth.jwt_secret_file */
	const char *tenant;
};

/* "Authorization: Bearer …\r\n" with a JWT of this user, to be freed. */
char *bench_belay_user(const struct bench_belay *b, const char *user, const char *role);
/* Registers a device that belongs to the user (whose fields are given): the fields of its own connection, to be freed. */
char *bench_belay_device(const struct bench_belay *b, const char *user_fields, const char *device);

/* The value after "name": in a JSON text, without looking at structure; NULL when absent. */
const char *bench_json_after(const char *p, size_t len, const char *name_colon);

#endif

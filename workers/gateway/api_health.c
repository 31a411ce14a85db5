/*
 * api_health.c: is it alive, is it ready, how does it do: for people, load
 * balancers and Prometheus.  One gateway process.  A tenant is shown counts of
 * its own; those of the instance, which all processes keep in shared memory,
 * are the operator's.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/version.h"
#include "gateway/api.h"
#include "gateway/api_health.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
#include "gateway/traffic.h"
#include "shm/directory.h"
#include "shm/pending.h"
#include "shm/topics.h"

void
api_health(struct gateway *g, struct conn *c)
{
	struct buf *b = &g->payload;

	buf_clear(b);
	buf_puts(b, "{\"status\":\"ok\",\"version\":\"" BELAY_VERSION "\",\"uptimeMs\":");
	buf_put_i64(b, g->w->mono_ms - shm_started_mono_ms(g->w->shm));
	buf_putc(b, '}');
	http_respond_json(g, c, 200, buf_slice(b));
}

/* fault: why the store takes no writes, in words; NULL: it does. */
static void
respond_ready(struct gateway *g, struct conn *c, const char *fault)
{
	if (gateway_leaves(g))
		http_respond_error(g, c, ERROR_unavailable, "the server is stopping", NULL);
	else if (fault != NULL)
		http_respond_error(g, c, ERROR_unavailable, fault, NULL);
	else
		http_respond_json(g, c, 200, SLICE("{\"status\":\"ready\"}"));
}

/* Resident bytes of a process without what it shares: from /proc, which never blocks. */
static long
private_bytes(int pid)
{
	char path[64];
	long pages = 0, shared = 0, total;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	if ((f = fopen(path, "re")) == NULL)
		return 0;
	if (fscanf(f, "%ld %ld %ld", &total, &pages, &shared) != 3)
		pages = shared = 0;
	fclose(f);
	return (pages - shared) * sysconf(_SC_PAGESIZE);
}

static const char *
state_name(const struct gateway *g, const struct slot_view *view)
{
	if (view->pid == 0)
		return "down";
	if (g->w->mono_ms - view->heartbeat_mono_ms > 3000)
		return "hanging";
	return view->state == SLOT_READY ? "ok" : view->state == SLOT_DRAINING ? "draining" :
	    "starting";
}

/* whole: with the counts that are of no one tenant. */
static void
respond_detailed(struct gateway *g, struct conn *c, const char *fault, int64_t store_ms, bool whole)
{
	struct buf *b = &g->payload;
	bool all_ok = fault == NULL;
	long bytes = 0;

	buf_clear(b);
	buf_puts(b, "{\"workers\":{\"processes\":[");
	for (unsigned slot = 0, n = 0; slot < shm_sizes(g->w->shm)->slots; slot++) {
		struct slot_view view;

		slot_get(g->w->shm, slot, &view);
		if (view.generation == 0 || view.state == SLOT_FREE)
			continue;
		all_ok = all_ok && strcmp(state_name(g, &view), "ok") == 0;
		bytes += whole && view.pid > 0 ? private_bytes(view.pid) : 0;
		buf_printf(b,
		    "%s{\"role\":\"%s\",\"number\":%u,\"pid\":%d,\"starts\":%u,\"status\":\"%s\"}",
		    n++ > 0 ? "," : "", worker_role_name(view.role), view.nth, view.pid,
		    view.generation, state_name(g, &view));
	}
	buf_printf(b, "],\"status\":\"%s\"},\"store\":{\"status\":\"%s\",\"latencyMs\":%lld",
	    all_ok ? "ok" : "degraded", fault == NULL ? "ok" : "down", (long long)store_ms);
	if (fault != NULL) {
		buf_puts(b, ",\"message\":");
		buf_put_json_string(b, slice_of(fault));
	}
	buf_puts(b, "},");
	/* Parts that are not configured say so rather than "ok". */
	buf_puts(b,
	    "\"redis\":{\"status\":\"off\"},\"mqtt\":{\"status\":\"off\"},\"feed\":{\"status\":\"off\"},");
	buf_puts(b, "\"memory\":{\"status\":\"ok\"");
	if (whole)
		buf_printf(b, ",\"privateBytes\":%ld,\"devices\":%u,\"pendingCommands\":%u,\"audiences\":%u", bytes,
		    directory_count(g->w->shm), pending_count(g->w->shm), topics_count(g->w->shm));
	buf_puts(b, "},");
	buf_printf(b, "\"status\":\"%s\",\"version\":\"" BELAY_VERSION "\"}",
	    all_ok ? "ok" : "degraded");
	http_respond_json(g, c, 200, buf_slice(b));
}

/* ------------------------------------------------------------------ the store is asked */

static void
answer_probe(struct gateway *g, struct conn *c, const struct ask *a, const char *fault)
{
	if (c->http->match.route == ROUTE_health_detailed)
		respond_detailed(g, c, fault, g->w->mono_ms - a->since_ms, api_sees_instance(g, c));
	else
		respond_ready(g, c, fault);
}

static void
probed(struct gateway *g, struct conn *c, const struct ask *a, const struct msg_store_reply *m)
{
	char fault[512];

	snprintf(fault, sizeof(fault), "%.*s", (int)m->message.len, m->message.p);
	answer_probe(g, c, a, m->code == ERROR_NONE ? NULL : fault);
}

static void
probe_failed(struct gateway *g, struct conn *c, const struct ask *a, enum error_code code)
{
	(void)code;
	answer_probe(g, c, a, "the store does not answer");
}

static const struct ask_ops probes = { .waits = api_waits, .answer = probed, .failed = probe_failed };

void
api_probe(struct gateway *g, struct conn *c)
{
	struct msg_store_probe m = { .ref = conn_ref(g, c) };
	struct ask *a;

	if (gateway_leaves(g) && c->http->match.route == ROUTE_health_ready) {
		respond_ready(g, c, NULL);
		return;
	}
	a = ask_new(g, c, &probes, SLICE_NONE);
	a->until_ms = g->w->mono_ms + ASK_PROBE_MS;
	m.request = a->request;
	if (gateway_tell_storage(g, store_probe, &m) == -1)
		ask_failed(g, a, ERROR_unavailable);
}

/* ------------------------------------------------------------------ counts */

static int64_t
number(struct slice json, const char *name)
{
	struct json_value v = { JSON_KIND_NUMBER, json_raw(json, name) };
	int64_t n;

	return json_i64(v, &n) == 0 ? n : 0;
}

static void
put_rates(struct buf *b, int64_t window_ms, int64_t events, int64_t events_ms, const struct traffic_sum *t)
{
	buf_printf(b, "\"rates\":{\"windowMs\":%lld,\"eventsPerSecond\":%.3f,\"messagesPerSecond\":%.3f,"
	    "\"errorsPerSecond\":%.3f,\"refusedPerSecond\":%.3f},", (long long)window_ms,
	    events_ms > 0 ? (double)events * 1000 / (double)events_ms : 0, t->per_second[TRAFFIC_RECEIVED],
	    t->per_second[TRAFFIC_FAILED], t->per_second[TRAFFIC_REFUSED]);
}

void
api_health_metrics(struct gateway *g, struct conn *c, struct slice store, const struct traffic_sum *t)
{
	int64_t events = number(store, "events"), store_ms = number(store, "windowMs");
	int64_t window_ms = t->window_ms < store_ms ? t->window_ms : store_ms;
	struct buf *b = &g->payload;

	buf_clear(b);
	buf_printf(b, "{\"windowMs\":%lld,\"connections\":{\"open\":%u,\"accepted\":%llu},", (long long)window_ms,
	    t->connections, (unsigned long long)t->counts[TRAFFIC_ACCEPTED]);
	buf_printf(b, "\"messages\":{\"received\":%llu,\"sent\":%llu,\"invalid\":%llu},",
	    (unsigned long long)t->counts[TRAFFIC_RECEIVED], (unsigned long long)t->counts[TRAFFIC_SENT],
	    (unsigned long long)t->counts[TRAFFIC_INVALID]);
	put_rates(b, window_ms, events, store_ms, t);
	buf_puts(b, "\"commands\":");
	buf_put_slice(b, json_raw(store, "commands"));
	if (json_raw(store, "store").p != NULL) {
		buf_puts(b, ",\"store\":");
		buf_put_slice(b, json_raw(store, "store"));
	}
	buf_printf(b, ",\"events\":{\"stored\":%lld},\"errors\":{\"store\":%llu,\"http5xx\":%llu}}", (long long)events,
	    (unsigned long long)t->counts[TRAFFIC_UNAVAILABLE], (unsigned long long)t->counts[TRAFFIC_HTTP_5XX]);
	http_respond_json(g, c, 200, buf_slice(b));
}

/*
 * Lines of one metric with several labels stand together in stats.def: HELP and TYPE come before
 * the first.
 */
static void
put_metric(struct buf *b, const struct stat_name *name, const char **last, size_t *last_len,
    uint64_t value)
{
	size_t len = strcspn(name->metric, "{");

	if (*last == NULL || *last_len != len || memcmp(*last, name->metric, len) != 0) {
		buf_printf(b, "# HELP %.*s %s\n# TYPE %.*s %s\n", (int)len, name->metric,
		    name->help, (int)len, name->metric, name->kind == STAT_KIND_GAUGE ? "gauge" :
		    "counter");
		*last = name->metric;
		*last_len = len;
	}
	buf_printf(b, "%s %llu\n", name->metric, (unsigned long long)value);
}

/* A time in seconds without rounding: microseconds have six places. */
static void
put_seconds(struct buf *b, uint64_t us)
{
	buf_printf(b, "%llu.%06llu", (unsigned long long)(us / 1000000), (unsigned long long)(us % 1000000));
}

static void
put_histogram(struct gateway *g, struct buf *b, const struct stat_histogram *h)
{
	uint64_t below = 0;

	buf_printf(b, "# HELP %s %s\n# TYPE %s histogram\n", h->metric, h->help, h->metric);
	for (unsigned i = 0; i <= STAT_BUCKET_COUNT; i++) {
		below += stats_sum(g->w->shm, h->first + i);
		buf_printf(b, "%s_bucket{le=\"", h->metric);
		if (i < STAT_BUCKET_COUNT)
			put_seconds(b, stat_bucket_us[i]);
		else
			buf_puts(b, "+Inf");
		buf_printf(b, "\"} %llu\n", (unsigned long long)below);
	}
	buf_printf(b, "%s_sum ", h->metric);
	put_seconds(b, stats_sum(g->w->shm, h->first + STAT_HISTOGRAM_CELLS - 1));
	buf_printf(b, "\n%s_count %llu\n", h->metric, (unsigned long long)below);
}

void
api_metrics(struct gateway *g, struct conn *c)
{
	struct buf *b = &g->payload;
	const char *last = NULL;
	size_t last_len = 0;

	buf_clear(b);
	for (unsigned i = 0; i < STAT_COUNT; i++)
		put_metric(b, &stat_names[i], &last, &last_len, stats_sum(g->w->shm, i));
	for (unsigned i = 0; i < stat_histogram_count; i++)
		put_histogram(g, b, &stat_histograms[i]);
	buf_puts(b, "# HELP belay_devices_online Devices connected.\n# TYPE belay_devices_online "
	    "gauge\n");
	buf_printf(b, "belay_devices_online %u\n", directory_count(g->w->shm));
	buf_puts(b, "# HELP belay_commands_pending Commands whose result is waited for.\n"
	    "# TYPE belay_commands_pending gauge\n");
	buf_printf(b, "belay_commands_pending %u\n", pending_count(g->w->shm));
	buf_puts(b, "# HELP belay_uptime_seconds Time since the instance was started.\n# TYPE "
	    "belay_uptime_seconds gauge\n");
	buf_printf(b, "belay_uptime_seconds %lld\n",
	    (long long)(g->w->mono_ms - shm_started_mono_ms(g->w->shm)) / 1000);
	buf_puts(b, "# HELP belay_info The version that runs.\n# TYPE belay_info gauge\n");
	buf_puts(b, "belay_info{version=\"" BELAY_VERSION "\"} 1\n");
	http_respond(g, c, 200, SLICE("text/plain; version=0.0.4; charset=utf-8"), buf_slice(b));
}

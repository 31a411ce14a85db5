/*
 * api_health.c: is it alive, is it ready, how does it do: for people, load
 * balancers and Prometheus.  One gateway process, which reads what all
 * processes of the instance count in shared memory.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/version.h"
#include "gateway/api.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
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

void
api_health_ready(struct gateway *g, struct conn *c, bool store_ok)
{
	if (g->w->draining)
		http_respond_error(g, c, ERROR_unavailable, "the server is stopping", NULL);
	else if (!store_ok)
		http_respond_error(g, c, ERROR_unavailable, "the store takes no writes", NULL);
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

void
api_health_detailed(struct gateway *g, struct conn *c, bool store_ok, int64_t store_ms)
{
	struct buf *b = &g->payload;
	bool all_ok = store_ok;
	long bytes = 0;

	buf_clear(b);
	buf_puts(b, "{\"workers\":{\"processes\":[");
	for (unsigned slot = 0, n = 0; slot < shm_sizes(g->w->shm)->slots; slot++) {
		struct slot_view view;

		slot_get(g->w->shm, slot, &view);
		if (view.generation == 0 || view.state == SLOT_FREE)
			continue;
		all_ok = all_ok && strcmp(state_name(g, &view), "ok") == 0;
		bytes += view.pid > 0 ? private_bytes(view.pid) : 0;
		buf_printf(b,
		    "%s{\"role\":\"%s\",\"number\":%u,\"pid\":%d,\"starts\":%u,\"status\":\"%s\"}",
		    n++ > 0 ? "," : "", worker_role_by_id(view.role)->name, view.nth, view.pid,
		    view.generation, state_name(g, &view));
	}
	buf_printf(b, "],\"status\":\"%s\"},\"store\":{\"status\":\"%s\",\"latencyMs\":%lld},",
	    all_ok ? "ok" : "degraded", store_ok ? "ok" : "down", (long long)store_ms);
	/* Parts that are not configured say so rather than "ok". */
	buf_puts(b,
	    "\"redis\":{\"status\":\"off\"},\"mqtt\":{\"status\":\"off\"},\"feed\":{\"status\":\"off\"},");
	buf_printf(b,
	    "\"memory\":{\"status\":\"ok\",\"privateBytes\":%ld,\"devices\":%u,\"pendingCommands\":%u,"
	    "\"audiences\":%u},",
	    bytes, directory_count(g->w->shm), pending_count(g->w->shm), topics_count(g->w->shm));
	buf_printf(b, "\"status\":\"%s\",\"version\":\"" BELAY_VERSION "\"}",
	    all_ok ? "ok" : "degraded");
	http_respond_json(g, c, 200, buf_slice(b));
}

static uint64_t
sum(const struct gateway *g, enum stats_counter counter)
{
	return stats_sum(g->w->shm, counter);
}

void
api_health_sample(struct gateway *g)
{
	struct rate_history *r = &g->rates;
	struct rate_sample *now;

	if (g->w->mono_ms < r->due_ms)
		return;
	r->due_ms = g->w->mono_ms + RATE_EVERY_MS;
	now = &r->sample[r->count++ % RATE_SAMPLES];
	now->at_ms = g->w->mono_ms;
	now->events = sum(g, STAT_EVENTS_STORED);
	now->messages = sum(g, STAT_MESSAGES_IN);
	now->errors = sum(g, STAT_STORE_ERRORS) + sum(g, STAT_HTTP_5XX);
	now->invalid = sum(g, STAT_MESSAGES_INVALID) + sum(g, STAT_HTTP_4XX);
}

/* Per second, over the time since the oldest sample. */
static double
rate(const struct gateway *g, const struct rate_sample *then, uint64_t was, uint64_t is)
{
	int64_t ms = g->w->mono_ms - then->at_ms;

	return ms <= 0 || is < was ? 0 : (double)(is - was) * 1000 / (double)ms;
}

static void
put_rates(const struct gateway *g, struct buf *b)
{
	const struct rate_history *r = &g->rates;
	const struct rate_sample none = { g->w->mono_ms, 0, 0, 0, 0 };
	unsigned oldest = r->count > RATE_SAMPLES ? r->count % RATE_SAMPLES : 0;
	const struct rate_sample *then = r->count == 0 ? &none : &r->sample[oldest];
	uint64_t errors = sum(g, STAT_STORE_ERRORS) + sum(g, STAT_HTTP_5XX);
	uint64_t refused = sum(g, STAT_MESSAGES_INVALID) + sum(g, STAT_HTTP_4XX);

	buf_printf(b, "\"rates\":{\"windowMs\":%lld,\"eventsPerSecond\":%.3f,\"messagesPerSecond\":%.3f,"
	    "\"errorsPerSecond\":%.3f,\"refusedPerSecond\":%.3f},", (long long)(g->w->mono_ms - then->at_ms),
	    rate(g, then, then->events, sum(g, STAT_EVENTS_STORED)),
	    rate(g, then, then->messages, sum(g, STAT_MESSAGES_IN)), rate(g, then, then->errors, errors),
	    rate(g, then, then->invalid, refused));
}

/* The time in microseconds below which the share q of all commands lies, within its bucket in proportion. */
static double
quantile(const struct gateway *g, enum stats_counter first, double q)
{
	double all = 0, below = 0, low = 0;

	for (unsigned i = 0; i <= STAT_BUCKET_COUNT; i++)
		all += (double)stats_sum(g->w->shm, first + i);
	for (unsigned i = 0; i < STAT_BUCKET_COUNT && all > 0; i++) {
		double here = (double)stats_sum(g->w->shm, first + i);

		if (here > 0 && below + here >= q * all)
			return low + (stat_bucket_us[i] - low) * (q * all - below) / here;
		below += here;
		low = stat_bucket_us[i];
	}
	return all > 0 ? low : -1;
}

static void
put_latency(const struct gateway *g, struct buf *b)
{
	static const struct {
		const char *name;
		double q;
	} shown[] = { { "p50", 0.5 }, { "p90", 0.9 }, { "p99", 0.99 } };

	buf_puts(b, "\"latencyMs\":{");
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
		double us = quantile(g, STAT_COMMAND_US, shown[i].q);

		buf_printf(b, "%s\"%s\":", i > 0 ? "," : "", shown[i].name);
		if (us < 0)
			buf_puts(b, "null");
		else
			buf_printf(b, "%.3f", us / 1000);
	}
	buf_putc(b, '}');
}

void
api_health_metrics(struct gateway *g, struct conn *c)
{
	struct buf *b = &g->payload;

	buf_clear(b);
	buf_printf(b, "{\"connections\":{\"open\":%llu,\"accepted\":%llu},",
	    (unsigned long long)sum(g, STAT_CONNECTIONS_OPEN),
	    (unsigned long long)sum(g, STAT_CONNECTIONS_ACCEPTED));
	buf_printf(b, "\"messages\":{\"received\":%llu,\"sent\":%llu,\"invalid\":%llu},",
	    (unsigned long long)sum(g, STAT_MESSAGES_IN),
	    (unsigned long long)sum(g, STAT_MESSAGES_OUT),
	    (unsigned long long)sum(g, STAT_MESSAGES_INVALID));
	put_rates(g, b);
	buf_printf(b, "\"commands\":{\"created\":%llu,\"executed\":%llu,\"failed\":%llu,"
	    "\"timeout\":%llu,\"expired\":%llu,"
	    "\"cancelled\":%llu,\"pending\":%u,",
	    (unsigned long long)sum(g, STAT_COMMANDS_CREATED), (unsigned long long)sum(g, STAT_COMMANDS_EXECUTED),
	    (unsigned long long)sum(g, STAT_COMMANDS_FAILED), (unsigned long long)sum(g, STAT_COMMANDS_TIMEOUT),
	    (unsigned long long)sum(g, STAT_COMMANDS_EXPIRED), (unsigned long long)sum(g, STAT_COMMANDS_CANCELLED),
	    pending_count(g->w->shm));
	put_latency(g, b);
	buf_printf(b, "},\"events\":{\"stored\":%llu},\"errors\":{\"store\":%llu,\"http5xx\":%llu}}",
	    (unsigned long long)sum(g, STAT_EVENTS_STORED), (unsigned long long)sum(g, STAT_STORE_ERRORS),
	    (unsigned long long)sum(g, STAT_HTTP_5XX));
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

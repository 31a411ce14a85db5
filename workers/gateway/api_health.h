/*
 * api_health.h: is it alive, is it ready, how does it do.
 */
#ifndef BELAY_GATEWAY_API_HEALTH_H
#define BELAY_GATEWAY_API_HEALTH_H

#include "base/slice.h"

struct conn;
struct gateway;
struct traffic_sum;

/* GET /health */
void api_health(struct gateway *g, struct conn *c);
/* GET /health/ready, /health/detailed: storage is asked whether the store takes writes. */
void api_probe(struct gateway *g, struct conn *c);
/* GET /health/metrics.  store: the object in which storage counted. */
void api_health_metrics(struct gateway *g, struct conn *c, struct slice store, const struct traffic_sum *traffic);
/* GET /metrics */
void api_metrics(struct gateway *g, struct conn *c);

#endif

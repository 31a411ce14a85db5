/*
 * rest.h: the REST requests that storage answers, by resource.
 */
#ifndef BELAY_STORAGE_REST_H
#define BELAY_STORAGE_REST_H

#include "storage/storage.h"
#include "store/rest.h"

/* rest_device.c */
enum db_result rest_device_register(struct storage *s, const struct rest *r);
enum db_result rest_device_update(struct storage *s, const struct rest *r);
enum db_result rest_device_delete(struct storage *s, const struct rest *r);
/* Answers with the whole device and its new token, which is shown this once. */
enum db_result rest_device_and_token(struct storage *s, const struct rest *r, int64_t pk, unsigned status);
/* device_token.c */
enum db_result rest_device_token(struct storage *s, const struct rest *r);
/* report.c: a device tells it without a connection */
enum db_result rest_device_event(struct storage *s, const struct rest *r);
enum db_result rest_device_state(struct storage *s, const struct rest *r);
/* rest_health.c */
enum db_result rest_health_metrics(struct storage *s, const struct rest *r);
/* rest_share.c */
enum db_result rest_share_add(struct storage *s, const struct rest *r);
enum db_result rest_share_remove(struct storage *s, const struct rest *r);
/* visitor.c */
enum db_result rest_visitor_approve(struct storage *s, const struct rest *r);
enum db_result rest_visitor_deny(struct storage *s, const struct rest *r);

#endif

/*
 * rest.h: the REST requests that storage answers, by resource.
 */
#ifndef BELAY_STORAGE_REST_H
#define BELAY_STORAGE_REST_H

#include "storage/storage.h"
#include "store/rest.h"

/* rest_device.c */
enum db_result rest_device_register(struct storage *s, const struct rest *r);
enum db_result rest_device_list(struct storage *s, const struct rest *r);
enum db_result rest_device_stats(struct storage *s, const struct rest *r);
enum db_result rest_device_get(struct storage *s, const struct rest *r);
enum db_result rest_device_update(struct storage *s, const struct rest *r);
enum db_result rest_device_delete(struct storage *s, const struct rest *r);
enum db_result rest_device_token(struct storage *s, const struct rest *r);
/* rest_health.c */
/* Counts of all devices of the requester's tenant; *tenant_pk is 0, and the counts are, when nothing is known of it. */
enum db_result rest_tenant_devices(struct storage *s, const struct rest *r, struct db_stats *out,
    int64_t *tenant_pk);
enum db_result rest_health_devices(struct storage *s, const struct rest *r);
enum db_result rest_health_metrics(struct storage *s, const struct rest *r);
/* rest_share.c */
enum db_result rest_share_list(struct storage *s, const struct rest *r);
enum db_result rest_share_add(struct storage *s, const struct rest *r);
enum db_result rest_share_remove(struct storage *s, const struct rest *r);
/* rest_event.c */
enum db_result rest_device_events(struct storage *s, const struct rest *r);
enum db_result rest_events(struct storage *s, const struct rest *r);
/* rest_command.c */
enum db_result rest_command_get(struct storage *s, const struct rest *r);
enum db_result rest_device_commands(struct storage *s, const struct rest *r);
/* rest_telemetry.c */
enum db_result rest_telemetry(struct storage *s, const struct rest *r);
enum db_result rest_device_telemetry(struct storage *s, const struct rest *r);
/* visitor.c */
enum db_result rest_visitor_list(struct storage *s, const struct rest *r);
enum db_result rest_visitor_approve(struct storage *s, const struct rest *r);
enum db_result rest_visitor_deny(struct storage *s, const struct rest *r);

#endif

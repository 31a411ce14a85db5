/*
 * conf_check.h: what a value of an option must look like, beyond its type.
 *
 * Each check is 0, or -1 with a sentence in why: it never quotes the value, which may be a secret.
 */
#ifndef BELAY_BASE_CONF_CHECK_H
#define BELAY_BASE_CONF_CHECK_H

#include <stddef.h>
#include <stdint.h>

#define CONF_WHY_LEN 160
#define CONF_URL_MAX 1024		/* bytes of an address that is fetched from */

typedef int conf_check(const char *value, char why[CONF_WHY_LEN]);

conf_check conf_check_any, conf_check_address, conf_check_address_or_none, conf_check_claim,
    conf_check_feed_url, conf_check_group,
    conf_check_https_url_or_none, conf_check_instance, conf_check_log_target, conf_check_mqtt_url,
    conf_check_network,
    conf_check_origin, conf_check_path, conf_check_path_or_none, conf_check_proxy_or_none,
    conf_check_redis_url, conf_check_service_key,
    conf_check_tenant_or_none, conf_check_tenants, conf_check_topic, conf_check_user, conf_check_user_type;

/*
 * "30s", "500ms", "5m", "2h", "90d", "0" to milliseconds; "64K", "1M", "2G", "512" to bytes.  -1
 * with a sentence.
 */
int conf_parse_duration(const char *text, int64_t *ms, char why[CONF_WHY_LEN]);
int conf_parse_size(const char *text, uint64_t *bytes, char why[CONF_WHY_LEN]);
/* The shortest text that gives the value back; out has room for 24 bytes. */
void conf_format_duration(int64_t ms, char out[24]);
void conf_format_size(uint64_t bytes, char out[24]);

#endif

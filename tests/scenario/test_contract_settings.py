"""Every option that belongs to the product may be named, also where this version does nothing with it yet."""

import subprocess

import pytest

from belay import BUILD, SECRET, clean_environment

ALL = """
server: { listen = ["0.0.0.0:3000"]; workers = 0; instance = ""; run_dir = "/run/belay"; pidfile = ""; user = ""; log = "stderr";
          log_level = "info"; accept = "shared"; drain_delay = "0s"; drain_time = "30s"; drain_rate = 1000; return_time = "30s";
          console = true; user_types = ["x_*"]; echo = false; admin_listen = ""; tls_listen = []; tls_certificate = ""; tls_key = "";
          proxy_protocol = false; trusted_proxies = []; };
auth:   { default_tenant = "default"; jwt_secret_file = ""; jwt_public_key_file = ""; jwks_file = ""; jwks_url = ""; issuer = "";
          audience = ""; azp = []; tenant_members = "none"; origins = []; service_keys = []; jwks_refresh = "10m"; jwks_cooldown = "30s";
          device_tokens = "belay"; };
store:  { url = "sqlite:///var/lib/belay/belay.db"; processes = 1; event_retention = "90d"; };
cluster:{ redis = ""; name = "belay"; tag = ""; };
mqtt:   { url = ""; prefix = "belay"; };
feed:   { url = ""; mode = "poll"; interval = "2s"; access = "devices"; tenant = ""; data_transfer_table = ""; };
limits: { heartbeat = "30s"; message_size = "64K"; message_rate = 50; message_burst = 100; send_buffer = "1M"; handshake_time = "10s";
          connections = 0; connections_per_ip = 0; connections_per_user = 0; commands_in_flight = 32; replay = 1000;
          requests_per_user = 100; json_depth = 32; };
ws:     { deflate = false; close_codes = "registered"; };
"""


def checked(folder, *options):
    conf = folder / "all.conf"
    conf.write_text(ALL)
    return subprocess.run([BUILD / "belayd", "-t", "-c", conf, *options], capture_output=True, text=True,
                          env=clean_environment(JWT_SECRET=SECRET))


def test_all_with_their_defaults(tmp_path):
    done = checked(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("option", ["server.console=no", "auth.device_tokens=any", "cluster.name=b", "cluster.tag=b1"])
def test_what_is_not_there_is_not_set(tmp_path, option):
    done = checked(tmp_path, "-o", option)
    assert done.returncode == 1 and option.split("=")[0] in done.stdout + done.stderr

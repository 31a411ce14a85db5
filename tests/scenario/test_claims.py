"""Tokens as identity providers really issue them, and several issuers at once (protocol section 2).

The payloads have the shape, names and kinds of values that each provider documents; the values are made up.
"""

import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from belay import SECRET, Refused, eventually

NOW = int(time.time())
TIMES = {"iat": NOW - 5, "exp": NOW + 3600}


def clerk_v1(**more):
    return {"azp": "https://app.example", "iss": "https://clean-fox-1.clerk.accounts.dev", "nbf": NOW - 10, "sid": "sess_2abc", "sub": "user_2xyz",
            "org_id": "org_2acme", "org_role": "org:admin", "org_slug": "acme", "org_permissions": ["org:locks:manage"], **TIMES, **more}


def clerk_v2(**more):
    return {"azp": "https://app.example", "iss": "https://clean-fox-1.clerk.accounts.dev", "nbf": NOW - 10, "sid": "sess_2abc", "sub": "user_2xyz", "v": 2,
            "fea": "o:locks", "fva": [1, -1], "sts": "active", "pla": "o:free", "jti": "0a1b",
            "o": {"id": "org_2acme", "slg": "acme", "rol": "admin", "per": "manage", "fpm": "1"}, **TIMES, **more}


def auth0(**more):
    return {"iss": "https://acme.eu.auth0.com/", "sub": "auth0|64a0", "aud": ["https://belay.example/api", "https://acme.eu.auth0.com/userinfo"],
            "azp": "xYzClient", "scope": "openid profile", "gty": "password", "https://belay.example/tenant": "acme",
            "https://belay.example/roles": ["viewer", "admin"], **TIMES, **more}


def auth0_organization(**more):
    return {"iss": "https://acme.eu.auth0.com/", "sub": "google-oauth2|1134", "aud": "https://belay.example/api", "azp": "xYzClient",
            "org_id": "org_9ybsU1dN2dKfDkBi", "org_name": "acme", "permissions": ["read:locks"], **TIMES, **more}


def keycloak(**more):
    return {"jti": "onrtac:0f", "iss": "https://sso.example/realms/acme", "aud": "account", "sub": "f4ac7e1c-40d2-4d9f-bb58-aa1d2bd5a52e", "typ": "Bearer",
            "azp": "dashboard", "sid": "9a", "acr": "1", "allowed-origins": ["https://app.example"],
            "realm_access": {"roles": ["default-roles-acme", "offline_access", "admin"]},
            "resource_access": {"account": {"roles": ["manage-account"]}}, "scope": "openid email organization", "email_verified": True,
            "preferred_username": "ann", "organization": {"acme": {"id": "42c3e46f-2477-44d7-a85b-d3b43f6b31fa"}}, **TIMES, **more}


def supabase(**more):
    return {"aud": "authenticated", "sub": "11111111-2222-3333-4444-555555555555", "email": "ann@acme.example", "phone": "", "role": "authenticated",
            "aal": "aal1", "amr": [{"method": "password", "timestamp": NOW}], "session_id": "aaaa", "is_anonymous": False,
            "app_metadata": {"provider": "email", "providers": ["email"], "tenant_id": "acme", "role": "admin"},
            "user_metadata": {"tenant_id": "victim", "role": "admin"}, "iss": "https://abcdefgh.supabase.co/auth/v1", **TIMES, **more}


def cognito(**more):
    return {"sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "cognito:groups": ["users", "admin"], "iss": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_abc",
            "cognito:username": "ann", "custom:tenant_id": "acme", "origin_jti": "b", "aud": "1example23456789", "event_id": "c", "token_use": "id",
            "auth_time": NOW, "email": "ann@acme.example", **TIMES, **more}


PROVIDERS = {
    # name: (payload, settings, user, tenant, role)
    "clerk v1": (clerk_v1, {}, "user_2xyz", "org_2acme", "admin"),
    "clerk v2": (clerk_v2, {}, "user_2xyz", "org_2acme", "admin"),
    "auth0": (auth0, {"tenant_claim": "https://belay.example/tenant", "role_claim": "https://belay.example/roles",
                      "audience": "https://belay.example/api"}, "auth0|64a0", "acme", "admin"),
    "auth0 organizations": (auth0_organization, {"audience": "https://belay.example/api"}, "google-oauth2|1134", "org_9ybsU1dN2dKfDkBi", "user"),
    "keycloak": (keycloak, {"tenant_claim": "organization", "role_claim": "realm_access.roles"}, "f4ac7e1c-40d2-4d9f-bb58-aa1d2bd5a52e", "acme", "admin"),
    "supabase": (supabase, {"tenant_claim": "app_metadata.tenant_id", "role_claim": "app_metadata.role"},
                 "11111111-2222-3333-4444-555555555555", "acme", "admin"),
    "cognito": (cognito, {"tenant_claim": "custom:tenant_id", "role_claim": "cognito:groups"}, "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "acme", "admin"),
}


def bearer(t):
    return {"Authorization": f"Bearer {t}"}


class Keys:
    """A key pair of an issuer, as a PEM file and as a key set."""

    def __init__(self, kid, kind):
        self.kid, self.kind = kid, kind
        self.private = rsa.generate_private_key(65537, 2048) if kind == "RS256" else ec.generate_private_key(ec.SECP256R1())

    def sign(self, payload, **headers):
        return jwt.encode(payload, self.private, self.kind, headers={"kid": self.kid, **headers})

    def pem(self, path):
        path.write_bytes(self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        return path

    def jwks(self, path):
        algorithm = jwt.algorithms.RSAAlgorithm if self.kind == "RS256" else jwt.algorithms.ECAlgorithm
        key = json.loads(algorithm.to_jwk(self.private.public_key())) if self.kind == "RS256" else ec_jwk(self.private.public_key())
        path.write_text(json.dumps({"keys": [{**key, "kid": self.kid, "use": "sig", "alg": self.kind}]}))
        return path


def ec_jwk(key):
    n = key.public_numbers()
    b64 = lambda v: jwt.utils.base64url_encode(v.to_bytes(32, "big")).decode()
    return {"kty": "EC", "crv": "P-256", "x": b64(n.x), "y": b64(n.y)}


async def who(belayd, token):
    c = await belayd.open("/ws", bearer(token))
    p = c.connected["payload"]
    await c.close()
    return p["userId"], p["tenantId"], p["role"]


async def refused(belayd, token):
    with pytest.raises(Refused) as e:
        await belayd.open("/ws", bearer(token))
    status, body = await belayd.rest("GET", "/api/device", bearer=token)
    assert status == 401 and body["error"]["code"] == "invalid_token"
    return e.value.code, e.value.reason


@pytest.mark.parametrize("name", PROVIDERS)
async def test_provider(start, tmp_path, name):
    """Who it is, on both ways in; an admin sees the tenant, anybody else does not."""
    payload, settings, user, tenant, role = PROVIDERS[name]
    keys = Keys("k1", "RS256")
    belayd = start({"auth.jwks_file": keys.jwks(tmp_path / "jwks.json"), "auth.default_tenant": "", **{f"auth.{k}": v for k, v in settings.items()}})
    assert await who(belayd, keys.sign(payload())) == (user, tenant, role)
    status, body = await belayd.rest("POST", "/api/device/register", {"deviceId": "d", "name": "d", "ownerId": "x", "tenantId": tenant}, keys.sign(payload()))
    assert status == 201 and (body["device"]["ownerId"], body["device"]["tenantId"]) == (user, tenant)
    another = keys.sign(payload(sub="another"))
    status, body = await belayd.rest("GET", "/api/device/d", bearer=another)
    assert status == (200 if role == "admin" else 403)
    # Signed by nobody we know, or with what is no key of ours.
    for bad in (Keys("k1", "RS256").sign(payload()), jwt.encode(payload(), SECRET + "x" * 9, "HS256", headers={"kid": "k1"}), keys.sign(payload(sub=None)),
                keys.sign({k: v for k, v in payload().items() if k != "exp"})):
        assert await refused(belayd, bad) == (1008, "Invalid token")


async def test_no_organization_is_no_tenant(start):
    """Clerk without an active organisation: refused where auth.default_tenant is empty, else the default."""
    personal = clerk_v1()
    for k in ("org_id", "org_role", "org_slug", "org_permissions"):
        del personal[k]
    token = jwt.encode(personal, SECRET)
    belayd = start({"auth.default_tenant": ""})
    assert await refused(belayd, token) == (1008, "Invalid token")
    belayd = start()
    assert await who(belayd, token) == ("user_2xyz", "default", "user")
    belayd = start({"auth.default_tenant": "home"})
    assert await who(belayd, token) == ("user_2xyz", "home", "user")


async def test_what_a_user_can_write_is_not_read(start):
    """Supabase: user_metadata is the user's own; only the configured path counts."""
    belayd = start({"auth.tenant_claim": "app_metadata.tenant_id", "auth.role_claim": "app_metadata.role"})
    token = jwt.encode(supabase(app_metadata={"provider": "email", "tenant_id": "acme"}), SECRET)
    assert (await who(belayd, token))[1:] == ("acme", "user")


async def test_azp_and_issuer(start):
    belayd = start({"auth.azp": "https://app.example,https://app2.example", "auth.issuer": "https://clean-fox-1.clerk.accounts.dev"})
    assert (await who(belayd, jwt.encode(clerk_v2(), SECRET)))[0] == "user_2xyz"
    for bad in ({"azp": "https://evil.example"}, {"azp": None}, {"iss": "https://other.clerk.accounts.dev"}, {"iss": None}):
        assert await refused(belayd, jwt.encode(clerk_v2(**bad), SECRET)) == (1008, "Invalid token")


@pytest.mark.parametrize("bad", [{"sub": ""}, {"sub": "has space"}, {"sub": "x" * 129}, {"sub": ["a"]}, {"sub": {"a": 1}}, {"org_id": "a/b"}, {"org_id": 1.5},
                                 {"org_id": ["a", "b"]}, {"org_id": "x" * 65}, {"org_id": True}])
async def test_ids_that_are_none(belayd, bad):
    """A tenant that can't be read is no reason for the default one."""
    assert await refused(belayd, jwt.encode(clerk_v1(**bad), SECRET)) == (1008, "Invalid token")


async def test_several_issuers(start, tmp_path):
    """Each issuer with its own keys and mapping; a token counts for its own block alone, and an unknown issuer for none."""
    clerk, kc, cog = Keys("k", "RS256"), Keys("k", "ES256"), Keys("k", "RS256")
    folder = tmp_path / "b"
    folder.mkdir()
    conf = folder / "issuers.conf"
    conf.write_text(f'''
auth: {{
	default_tenant = "";
	tenant_claim = ["org_id", "o.id"];
	issuers = (
		{{ issuer = "https://clean-fox-1.clerk.accounts.dev"; jwks_file = "{clerk.jwks(folder / 'clerk.json')}"; azp = ["https://app.example"]; }},
		{{ issuer = "https://sso.example/realms/acme"; jwks_file = "{kc.jwks(folder / 'kc.json')}";
		  tenant_claim = ["organization"]; role_claim = ["realm_access.roles"]; user_claim = ["preferred_username"]; }},
		{{ issuer = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_abc"; jwt_public_key_file = "{cog.pem(folder / 'cog.pem')}";
		  audience = "1example23456789"; tenant_claim = ["custom:tenant_id"]; role_claim = ["cognito:groups"]; }} );
}};
''')
    belayd = start(folder=folder, args=["-c", str(conf)])
    assert await who(belayd, clerk.sign(clerk_v1())) == ("user_2xyz", "org_2acme", "admin")
    assert await who(belayd, clerk.sign(clerk_v2())) == ("user_2xyz", "org_2acme", "admin")
    assert await who(belayd, kc.sign(keycloak())) == ("ann", "acme", "admin")
    assert await who(belayd, cog.sign(cognito())) == ("aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "acme", "admin")
    bad = [
        kc.sign(clerk_v1()), clerk.sign(keycloak()), clerk.sign(cognito()),                 # one's key for another's name
        clerk.sign(clerk_v1(iss="https://unknown.example")), clerk.sign({k: v for k, v in clerk_v1().items() if k != "iss"}),
        clerk.sign(clerk_v1(iss="https://clean-fox-1.clerk.accounts.dev/")), clerk.sign(clerk_v1(iss=["https://clean-fox-1.clerk.accounts.dev"])),
        clerk.sign(clerk_v1(azp="https://evil.example")), cog.sign(cognito(aud="another")),
        kc.sign(keycloak(organization=None)),                                               # a mapping is not the others'
        kc.sign(keycloak(organization={"acme": {}, "bolt": {}})),
    ]
    for token in bad:
        assert await refused(belayd, token) == (1008, "Invalid token")
    # Users of one issuer are not those of another by the same name.
    a = await belayd.open("/ws", bearer(kc.sign(keycloak(preferred_username="same", realm_access={"roles": []}))))
    status, body = await belayd.rest("POST", "/v1/websocket/send/same", {"type": "x", "payload": {}}, clerk.sign(clerk_v1()))
    assert status == 200 and body == {"connections": 0}
    await a.close()


async def test_a_secret_beside_issuers(start, tmp_path):
    """A flat secret is the default of the blocks: it signs for their names and for no others."""
    folder = tmp_path / "b"
    folder.mkdir()
    conf = folder / "issuers.conf"
    keys = Keys("k", "RS256")
    conf.write_text(f'auth: {{ issuers = ( {{ issuer = "https://a.example"; }}, {{ issuer = "https://b.example"; jwt_public_key_file = "{keys.pem(folder / "b.pem")}"; }} ); }};\n')
    belayd = start(folder=folder, args=["-c", str(conf)])
    token = {"sub": "u", "tenant_id": "t", **TIMES}
    assert await who(belayd, jwt.encode({**token, "iss": "https://a.example"}, SECRET)) == ("u", "t", "user")
    assert await who(belayd, keys.sign({**token, "iss": "https://b.example"})) == ("u", "t", "user")
    for bad in (jwt.encode(token, SECRET), jwt.encode({**token, "iss": "https://c.example"}, SECRET), keys.sign({**token, "iss": "https://a.example"})):
        assert await refused(belayd, bad) == (1008, "Invalid token")

# Tokens: users', devices', service keys.
noinst_LIBRARIES += libauth.a
libauth_a_SOURCES = \
	src/auth/algorithm.c src/auth/algorithm.def src/auth/algorithm.h \
	src/auth/cache.c src/auth/cache.h \
	src/auth/claims.c src/auth/claims.def src/auth/claims.h \
	src/auth/device_token.c src/auth/device_token.h \
	src/auth/explain.c src/auth/explain.def src/auth/explain.h \
	src/auth/from_conf.c src/auth/from_conf.h \
	src/auth/identity.c src/auth/identity.h \
	src/auth/jwks_file.c src/auth/jwks_file.h \
	src/auth/jws.c src/auth/jws.h \
	src/auth/keys.c src/auth/keys.h \
	src/auth/mint.c src/auth/mint.h \
	src/auth/rules.c src/auth/rules.h \
	src/auth/service_key.c src/auth/service_key.h \
	src/auth/verify.c src/auth/verify.h

# Unit tests: msg

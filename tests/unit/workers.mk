# Unit tests: workers

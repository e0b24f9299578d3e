.PHONY: installed
installed:
	@test -x $(BIN)/python || { echo "no Python in $(BIN); install requirements.txt into an environment, then: make ... BIN=ENVIRONMENT/bin"; exit 2; }

# `make demo TORCH_BACKEND=cpu` installs the CPU-only build of torch (see README, "Install").
READY := .venv/ready
TORCH_BACKEND ?=

# The stamp file, not the folder, is the target: a failed install must not look finished.
$(READY): pyproject.toml constraints.txt
	python3 -m venv .venv
	.venv/bin/pip install --quiet uv
	.venv/bin/uv pip install --python .venv/bin/python -e '.[all,dev]' -c constraints.txt \
	    $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND))
	touch $@

demo: $(READY)
	.venv/bin/sightline demo
test: $(READY)
	.venv/bin/pytest -n 2 --dist worksteal
faults: $(READY)
	SIGHTLINE_KILLS=100 SIGHTLINE_HANGS=1000 .venv/bin/pytest -s tests/faults
lint: $(READY)
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/pyright
.PHONY: demo test faults lint

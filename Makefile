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
# Compiled modules are kept even where the environment says not to: 2,500 of them are imported.
test: $(READY)
	PYTHONDONTWRITEBYTECODE= .venv/bin/pytest -n 2 --dist worksteal
lint: $(READY)
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/pyright

# What takes too long for `make test`: every fault, a long run, other versions of TRL.
faults: $(READY)
	SIGHTLINE_KILLS=100 SIGHTLINE_HANGS=1000 .venv/bin/pytest -s tests/faults
soak: $(READY)
	SIGHTLINE_SOAK=500 .venv/bin/pytest -s tests/faults/test_soak.py
test-trl-matrix: $(READY)  # the lowest that pyproject.toml allows, and the newest
	grep -v '^trl==' constraints.txt > .venv/without-trl.txt
	for trl in 'trl==1.16.0' 'trl'; do \
	    .venv/bin/uv venv --quiet --clear .venv/matrix && \
	    .venv/bin/uv pip install --quiet --python .venv/matrix/bin/python --upgrade-package trl \
	        -e '.[all,dev]' "$$trl" -c .venv/without-trl.txt && \
	    .venv/matrix/bin/python -c 'import trl; print("trl", trl.__version__)' && \
	    .venv/matrix/bin/pytest -n 2 --dist worksteal tests/engines || exit 1; \
	done
test-deepspeed: $(READY)  # which needs a C++ compiler, and is not part of the other environment
	.venv/bin/uv venv --quiet --clear .venv/deepspeed
	.venv/bin/uv pip install --quiet --python .venv/deepspeed/bin/python -e '.[all,dev]' \
	    -c constraints.txt $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND))
	DS_BUILD_OPS=0 .venv/bin/uv pip install --quiet --python .venv/deepspeed/bin/python \
	    --no-build-isolation -e '.[deepspeed]' -c constraints.txt 'deepspeed==0.19.8'
	DS_ACCELERATOR=cpu .venv/deepspeed/bin/pytest tests/engines/test_deepspeed.py
# The tasks of lmms-eval by its own loader; it has 52 dependencies, and settles on other versions
# than constraints.txt, so it gets an environment of its own.
test-lmms-eval:
	python3 -m venv --clear .venv/lmms-eval
	.venv/lmms-eval/bin/pip install --quiet uv
	.venv/lmms-eval/bin/uv pip install --quiet --python .venv/lmms-eval/bin/python \
	    -e '.[trl,rewards,dev]' 'lmms-eval==0.7.3' \
	    $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND))
	.venv/lmms-eval/bin/pytest -rs tests/evaluate/test_lmms_eval.py
.PHONY: demo test lint faults soak test-trl-matrix test-deepspeed test-lmms-eval

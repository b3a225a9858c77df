"""Does it help, and when? Credit rules on tasks whose visual words are known.

A *cell* is a task, a rule, a learning rate and a seed: an ordinary run folder (``cell``). A
*suite* names the cells (``suite``), which processes of their own run and which are never run twice
(``runner``). ``statistics`` compares rules over seeds, ``hypotheses`` judges what was written down
before, ``page`` shows it with ``result_tables`` and ``figures``; ``gradients`` measures what a rule
does to the gradient itself, in the terms of ``signal_to_noise``. ``collecting`` makes the result
set, from which everything is drawn (``results``). ``command`` is ``sightline compare``.
"""

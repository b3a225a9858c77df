"""Responses of any framework → how much each of their tokens hangs on the image.

``request`` is what can be asked for; ``responses`` reads a file, with ``columns`` (what is taken
for what), ``chats`` (prompts of other frameworks) and ``fields`` (a row's values) → ``answered``;
``sampling`` draws responses instead; ``judging`` says which are right; ``tokens`` lines text up
with tokens. ``named_views`` has the views and controls, ``scorer`` scores batches under them,
``probe`` measures the noise. ``recording`` writes `tokens.jsonl`, ``token_table`` the same as
parquet, ``grounding`` sums up; ``attribution`` hides parts of an image, ``attributing`` does so
for the tokens that ``token_rules`` choose. ``run`` is `sightline score`,
these steps in their order.
"""

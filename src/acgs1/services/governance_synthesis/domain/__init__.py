"""Pure rules: the vocabulary of a schema, rules as Cedar policies, drafting, repair."""

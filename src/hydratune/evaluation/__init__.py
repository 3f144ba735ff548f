"""Operations on finished runs: predict, evaluate, compare."""

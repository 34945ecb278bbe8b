"""Operations of all tasks that train one model: strategies, allreduce, and the check that their variables are equal."""

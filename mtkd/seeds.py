"""The copies of a study that are trained, one a seed."""

from mtkd.config import Study


def seeded(study: Study) -> list[Study]:
    """The study once with each of its seeds."""
    return [study.model_copy(update={"seed": study.seed + more, "n_seeds": 1}) for more in range(study.n_seeds)]


def taught(study: Study) -> Study:
    """The study with the seed of the teachers that a student of its seed hears."""
    own = study.seed if study.teacher_seed is None else study.teacher_seed
    return study.model_copy(update={"seed": own, "teacher_seed": None, "n_seeds": 1})


def of_teachers(study: Study) -> list[Study]:
    """The study once with each seed that trains teachers."""
    return list({own.seed: own for own in map(taught, seeded(study))}.values())

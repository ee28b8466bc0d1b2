from examples.tasks import task_train  # noqa: F401 - this repository's own task, beside mlpkg's
from mlpkg.tasks import *

"""The two stages, one class each."""

from vqdist.training.tasks.pixelcnn import PixelCNNTask
from vqdist.training.tasks.task import Task
from vqdist.training.tasks.vqvae import VQVAETask

TASKS: dict[str, type[Task]] = {"vqvae": VQVAETask, "pixelcnn": PixelCNNTask}

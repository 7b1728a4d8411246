"""Fine-tune the default I3D on your own classes: `tubelet train examples/finetune.py -o run`.

Expects data/train.csv and data/val.csv beside this file, with lines `path class`.
"""

from tubelet.train.config import Augment, Data, LearningRate, Network, Optim, TrainConfig


def recipe() -> TrainConfig:
    return TrainConfig(
        network=Network("i3d_inception.k400", weights="released", frames=32, dropout=0.5),
        data=Data("data/train.csv", val="data/val.csv", workers=2),
        rate=LearningRate(0.01, epochs=20, warmup_epochs=1, warmup_start=0.001),
        augment=Augment(flip=0.5, brightness=0.2, contrast=0.2, saturation=0.2),
        optim=Optim("sgd", momentum=0.9, decay=1e-4),
        batch_size=8,
        tune=2,  # the last two stages and the classifier; "head" or "full" are the other choices
        norm="frozen",
        label_smoothing=0.1,
        views=(3, 1),
    )

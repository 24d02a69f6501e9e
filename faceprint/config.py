"""The configuration of a run: typed, frozen, every key read, an unknown key an error.

`faceprint.recipe` reads it from recipes and `key=value` arguments. Numbers derived from these keys (steps per epoch,
scaled learning rate) live in `faceprint.training.setup`, not here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
PositiveInt = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


Quality = Annotated[int, Field(ge=1, le=100)]


def _rising(span: tuple[Any, Any]) -> tuple[Any, Any]:
    if span[0] > span[1]:
        raise ValueError("the first number is the smaller one")
    return span


Span = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]], AfterValidator(_rising)
]

AUGMENT_PRESETS: dict[str, dict[str, Any]] = {
    "none": {"flip": 0.0},
    "arcface": {},  # deepinsight/insightface, recognition/arcface_torch/dataset.py: flips alone
    # mk-minchul/AdaFace, dataset/augmenter.py and its scripts
    "adaface": {
        "crop": 0.2,
        "low_res": 0.2,
        "photometric": 0.2,
        "brightness": 0.5,
        "contrast": 0.5,
        "saturation": 0.5,
    },
    # Ours, for cameras in the field: mild values of everything.
    "robust": {
        "mask": 0.1,
        "shift": 0.03,
        "zoom": 0.05,
        "rotate": 8.0,
        "crop": 0.1,
        "low_res": 0.2,
        "photometric": 0.5,
        "brightness": 0.4,
        "contrast": 0.4,
        "saturation": 0.4,
        "hue": 0.03,
        "grey": 0.05,
        "blur": 0.1,
        "jpeg": 0.3,
        "erase": 0.1,
    },
}
"""Values of `augment.preset`; keys that are given go before them."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Network(Section):
    """The network that is trained."""

    name: str = "mbf"
    """A name of `list_models()`."""
    embedding_dim: PositiveInt | None = None
    """Dimensions of the embedding; null: the network's own default."""
    image_size: tuple[PositiveInt, PositiveInt] = (112, 112)
    """Height and width of the aligned faces, in pixels."""
    options: dict[str, Any] = {}
    """Further arguments of the network's builder, such as `output: FC`."""


class Input(Section):
    """What the network sees of an image; written into the model file."""

    colour: Literal["rgb", "bgr"] = "rgb"
    """Order of the colour channels."""
    mean: float = 127.5
    """Subtracted from 0..255 pixels."""
    std: Positive = 127.5
    """Divides what is left."""


class MarginConfig(Section):
    """The margin of the loss."""

    name: str = "cosface"
    """A margin of the table below; `triplet` compares images with each other instead of with class centres."""
    options: dict[str, Any] = {}
    """Arguments of the margin, such as `scale: 64.0` and `margin: 0.4`."""
    schedule: dict[str, Annotated[list[tuple[NonNegative, float]], Field(min_length=1)]] = {}
    """Numeric options that change during training: `margin: [[0, 0.0], [5, 0.5]]` rises from 0 to 0.5 over the first
    five epochs and stays there. Between the points [epoch, value] it is linear."""


class Classifier(Section):
    """The class centres."""

    sample_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the classes that a step compares with (Partial FC); 1: all of them."""
    sub_centers: PositiveInt = 1
    """Centres a class, of which the nearest counts: 3 suits noisy data (sub-center ArcFace)."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target spread evenly over the classes."""
    class_weights: Literal["none", "inverse", "effective"] = "none"
    """Weight of each image's loss by the images of its class, n, with mean 1 over all images: n^-power, or the inverse
    of the effective number of images, (1 - beta) / (1 - beta^n) (Cui et al. 2019)."""
    class_weight_power: Fraction = 0.5
    """Of `inverse`: 0 weighs every image alike, 1 every class."""
    class_weight_beta: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of `effective`: 0 weighs every image alike, near 1 every class; past 1 / (1 - beta) images of a class, more of
    them count little."""
    update: Literal["sampled", "dense"] = "sampled"
    """Centres left out of a step stay as they are, or move exactly as SGD would move them."""
    centres: Literal["fp32", "bf16"] = "fp32"
    """Type that centres are stored in; bf16 takes half the memory and is rounded stochastically."""
    state: Literal["fp32", "bf16"] = "fp32"
    """Type of the optimiser's state of the centres."""
    product: Literal["fp32", "bf16"] = "fp32"
    """Type that embeddings and centres are multiplied in."""
    same_for_any_world: bool = False
    """Sample the same classes whatever the number of processes."""


class Exclude(Section):
    """People who are left out of training, because they are tested."""

    pairs: Path
    """A verification list in LFW `pairs.txt` layout; everybody named in it is left out of training."""
    folds: list[PositiveInt] | None = None
    """Only people of these folds (1-based); null: of all folds."""


class FolderData(Section):
    """An image folder: one folder a person."""

    source: Literal["folder"]
    """What kind of data it is."""
    path: Path
    """A folder with one folder an identity."""
    min_images: PositiveInt = 1
    """Identities with fewer images are left out."""
    exclude: Exclude | None = None
    """People who are left out; null: nobody."""


class ListData(Section):
    """An image list: a file with one line an image."""

    source: Literal["list"]
    """What kind of data it is."""
    path: Path
    """An image list: `path label`, `path<TAB>label`, or CSV with a header `path,label`."""
    root: Path | None = None
    """What its paths are relative to; null: the list's own folder."""
    min_images: PositiveInt = 1
    """Identities with fewer images are left out."""
    exclude: Exclude | None = None
    """People who are left out; null: nobody."""


class ShardsData(Section):
    """Tar shards in the WebDataset layout."""

    source: Literal["shards"]
    """What kind of data it is."""
    path: str
    """A .tar, a folder of them, a pattern such as `shards-{000..123}.tar` or `*.tar`, or a URL of these."""
    min_images: PositiveInt = 1
    """Identities with fewer images are left out."""
    exclude: Exclude | None = None
    """People who are left out; null: nobody."""


class ParquetData(Section):
    """Parquet files with encoded images, as Hugging Face datasets keeps them."""

    source: Literal["parquet"]
    """What kind of data it is."""
    path: str
    """A .parquet, a folder of them, a pattern such as `train-*.parquet`, or a URL of these."""
    image_column: str = "image"
    """The column of encoded images: binary, or a struct with `bytes`."""
    label_column: str | None = None
    """The column of labels, whole numbers or names; null: `identity`, else `label`."""
    min_images: PositiveInt = 1
    """Identities with fewer images are left out."""
    exclude: Exclude | None = None
    """People who are left out; null: nobody."""


class RecordData(Section):
    """A RecordIO file (`.rec`), as training sets are published."""

    source: Literal["record"]
    """What kind of data it is."""
    path: Path
    """A `.rec` file, or a folder that holds `train.rec`."""
    min_images: PositiveInt = 1
    """Identities with fewer images are left out."""
    exclude: Exclude | None = None
    """People who are left out, by `NAME.classes.txt` beside the file; null: nobody."""


class SyntheticData(Section):
    """Generated people. They say nothing about photographs."""

    source: Literal["synthetic"]
    """What kind of data it is."""
    identities: PositiveInt = 200
    """People to draw."""
    images_per_identity: PositiveInt = 20
    """Images of each."""
    difficulty: Fraction = 0.5
    """How much pose, light and expression vary; 0 repeats one portrait."""
    first_identity: Count = 0
    """Number of the first person: sets that share no number share no person."""
    seed: Count = 0
    """Another seed, other people."""


PartData = Annotated[
    Union[FolderData, ListData, RecordData, ShardsData, ParquetData, SyntheticData],  # noqa: UP007
    Field(discriminator="source"),
]


class Part(Section):
    """One of several sets."""

    name: str
    """What it is called: people of separate sets are called `NAME/PERSON`."""
    weight: Positive = 1.0
    """How often each of its images is drawn in an epoch, on average: 2 twice, 0.5 every other epoch."""
    data: PartData
    """The set, as `data` describes one; its keys may also stand beside `name`."""

    @model_validator(mode="before")
    @classmethod
    def _nested(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "source" not in values:
            return values
        own = ("name", "weight")
        return {
            **{key: values[key] for key in own if key in values},
            "data": {key: value for key, value in values.items() if key not in own},
        }


class MixedData(Section):
    """Several sets at once."""

    source: Literal["mixed"]
    """What kind of data it is."""
    parts: Annotated[list[Part], Field(min_length=1)]
    """The sets."""
    classes: Literal["separate", "by_name", "heads"] = "separate"
    """People of different sets are different people; or are one where they have one name; or are different, and
    compared with the people of their own set alone: each set has class centres of its own, and the loss is the mean
    over all images."""


Data = Annotated[Union[PartData, MixedData], Field(discriminator="source")]  # noqa: UP007

SOURCES: dict[str, type[Section]] = {
    "folder": FolderData,
    "list": ListData,
    "record": RecordData,
    "shards": ShardsData,
    "parquet": ParquetData,
    "synthetic": SyntheticData,
    "mixed": MixedData,
}


class Sampler(Section):
    """Which images make a batch."""

    name: Literal["shuffle", "pk", "balanced"] = "shuffle"
    """All images in random order; P identities with K images each (P x K = batch_size), as a triplet loss needs; or
    identities drawn by how many images they have, and an image of each."""
    images_per_identity: PositiveInt = 4
    """Of `pk`: K. Identities with fewer images repeat them."""
    window: PositiveInt | None = None
    """Of `shuffle`, for shards and Parquet: so many shards or row groups, drawn at random, are shuffled and read
    together before the next, which is much quicker where reading is slow to begin; null: all together."""
    power: Fraction = 0.5
    """Of `balanced`: an identity with n images is drawn with probability in proportion to n^power; 1 draws every image
    alike, 0 every identity."""


class Loader(Section):
    """Reading and decoding of images."""

    workers: Count | None = None
    """Processes that decode images; null: half of the cores, at most 8."""
    prefetch: PositiveInt = 2
    """Batches that each of them is ahead; they lie in shared memory."""
    cache: Literal["none", "encoded", "decoded"] = "none"
    """Keep the whole set in memory that the processes share: as it is stored, or as pixels once they are decoded."""
    decoder: Literal["auto", "cpu", "nvimagecodec"] = "auto"
    """What decodes: the CPU (auto too), or nvImageCodec on the GPU, whose pixels may differ by a few units in 255."""
    max_unreadable: Fraction = 0.01
    """Stop when more than this share of the images cannot be read; those that cannot are named and counted."""


class Augment(Section):
    """Random changes of training images, each on the batch as a whole, on the device that trains."""

    preset: Literal["none", "arcface", "adaface", "robust"] = "arcface"
    """What the other keys are where they are not given: nothing, flips (arcface_torch), AdaFace's, or all of it."""
    mask: Fraction = 0.0
    """Probability of a drawn face mask."""
    flip: Fraction = 0.5
    """Probability of a mirror image."""
    move: Fraction = 1.0
    """Probability of `shift`, `zoom` and `rotate`."""
    shift: Fraction = 0.0
    """Largest translation as a fraction of the image's side."""
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Scale drawn from 1 - zoom .. 1 + zoom."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest rotation, in degrees."""
    crop: Fraction = 0.0
    """Probability that a part of the image is all that is left."""
    crop_area: Span = (0.2, 1.0)
    """Smallest and largest share of the area that is left."""
    crop_mode: Literal["pad", "resize"] = "pad"
    """The part stays in its place on black, or is enlarged to the whole image."""
    low_res: Fraction = 0.0
    """Probability of a lower resolution: made smaller and larger again, by interpolations that are drawn."""
    low_res_scale: Span = (0.2, 1.0)
    """Smallest and largest fraction of the side that it is made smaller to."""
    photometric: Fraction = 1.0
    """Probability of `brightness`, `contrast`, `saturation` and `hue`."""
    brightness: Fraction = 0.0
    """Brightness factor drawn from 1 - brightness .. 1 + brightness."""
    contrast: Fraction = 0.0
    """Contrast factor drawn from 1 - contrast .. 1 + contrast."""
    saturation: Fraction = 0.0
    """Saturation factor drawn from 1 - saturation .. 1 + saturation."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest turn of the hue, as a fraction of the colour circle."""
    grey: Fraction = 0.0
    """Probability of a grey image."""
    blur: Fraction = 0.0
    """Probability of a Gaussian blur."""
    blur_sigma: Annotated[tuple[Positive, Positive], AfterValidator(_rising)] = (0.3, 1.5)
    """Smallest and largest standard deviation of the blur, in pixels."""
    jpeg: Fraction = 0.0
    """Probability of JPEG artefacts."""
    jpeg_quality: Annotated[tuple[Quality, Quality], AfterValidator(_rising)] = (30, 95)
    """Lowest and highest JPEG quality, 1 to 100."""
    erase: Fraction = 0.0
    """Probability that a random rectangle is covered."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        preset = given.get("preset") if isinstance(given, dict) else None
        return {**AUGMENT_PRESETS.get(preset, {}), **given} if isinstance(preset, str) else given


class Optimizer(Section):
    """What changes the weights."""

    name: Literal["sgd", "adamw"] = "sgd"
    """Stochastic gradient descent with momentum, or AdamW."""
    lr: Positive = 0.1
    """Learning rate for the reference batch; scaled in proportion to the actual global batch."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of SGD; AdamW takes it as its first beta."""
    weight_decay: NonNegative = 5e-4
    """Applied to every weight, norms included."""
    clip_norm: Positive | None = None
    """Gradients of all weights together are scaled down to this length; null: they are not."""
    lr_factors: dict[str, NonNegative] = {}
    """Parts of the network with a learning rate of their own, as a pattern of weight names and a factor:
    `{"layer1.*": 0.1}`. The last pattern that matches counts; 0 freezes."""
    unfreeze: NonNegative | None = None
    """Epoch from which parts frozen by a factor of 0 train at the full learning rate; null: never."""


class Schedule(Section):
    """The learning rate over the training."""

    name: Literal["step", "polynomial", "cosine", "constant"] = "step"
    """How the learning rate falls after the warm-up."""
    unit: Literal["epoch", "step"] = "epoch"
    """What `warmup` and `milestones` count; steps are steps of the reference batch."""
    warmup: NonNegative = 0.0
    """Length of the linear rise from 0."""
    milestones: list[Positive] = []
    """Of `step`: where the learning rate is multiplied by `factor`."""
    factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Of `step`: what the learning rate is multiplied by at each milestone."""
    power: Positive = 2.0
    """Of `polynomial`: the exponent; 1 is a straight line."""
    final: Fraction = 0.0
    """Of `polynomial` and `cosine`: the learning rate at the end as a fraction of the first."""


class Evaluation(Section):
    """Evaluation during training."""

    protocols: list[dict[str, Any]] = []
    """Each `{protocol: NAME, ...}` with that protocol's options, as `faceprint eval` takes them."""
    every: Count = 2000
    """Evaluate every this many steps or epochs, and at the end; 0: at the end only."""
    unit: Literal["step", "epoch"] = "step"
    """What `every` counts."""
    keep: Literal["best", "last"] = "best"
    """Which weights end in `model/`: those with the best figure of the first protocol, or the last."""
    metric: str = "accuracy"
    """The figure that decides which weights are best, as the result names it: accuracy, auc, tar_at_far.1e-3."""
    patience: Count = 0
    """Stop after so many evaluations in a row without a better figure; 0: never."""
    before: bool = False
    """Evaluate before the first step too, as suits weights that come by `init_from`."""


class Checkpoint(Section):
    """What a stopped run continues from."""

    every: Count = 1000
    """Steps between checkpoints; 0: at the end only."""
    keep: PositiveInt = 2
    """How many of them stay, the newest; that of the best evaluation stays besides."""
    background: bool = True
    """Write while the training goes on, from a copy in memory; false saves that memory, and the training waits."""


class Distributed(Section):
    """Several processes that train one network."""

    compress: Literal["none", "bf16", "fp16"] = "none"
    """Type that the network's gradients travel in between processes; half the bytes for slow networks."""
    bucket_mb: PositiveInt = 25
    """Gradients are sent in pieces of about this many megabytes, each as soon as it is complete."""
    static_graph: bool = False
    """Promise that every step uses the same weights, which lets gradients be sent with less book-keeping, but after
    each pass of a step."""
    timeout_seconds: Positive = 600.0
    """How long a process waits for the others before the training fails."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """ddp: every process holds the whole network; fsdp: a share of its weights and of their optimiser's state, for
    networks that do not fit otherwise. Their checkpoints are alike, and either continues the other's."""


class Distillation(Section):
    """A teacher whose embeddings the network learns to resemble, besides telling people apart."""

    teacher: Path | None = None
    """A run folder, a model folder or an ONNX file; null: none."""
    weight: Positive = 1.0
    """Of the distillation loss beside that of the margin."""
    loss: Literal["embedding", "relation", "both"] = "embedding"
    """embedding: 1 - cosine to the teacher's embedding of the same image; relation: distances and angles among the
    images of a batch (relational knowledge distillation), for which the dimensions may differ; both: their sum."""


class Log(Section):
    """Figures written during training."""

    every: PositiveInt = 20
    """Steps between lines of `metrics.jsonl`."""
    loggers: list[Literal["tensorboard", "wandb", "mlflow", "visdom"]] = []
    """Where the same figures go besides `metrics.jsonl` and `training.log`. One that fails is left out with a
    warning."""
    project: str = "faceprint"
    """Of wandb: the project; of mlflow: the experiment."""
    visdom_server: str = "http://localhost"
    """Of visdom: where the server is."""
    visdom_port: Annotated[int, Field(ge=1, le=65535)] = 8097
    """Of visdom: its port."""


class Score(Section):
    """One figure of a published table."""

    protocol: str
    """The test set, such as LFW or IJB-C."""
    metric: str
    """What is counted, such as accuracy or TAR@FAR=1e-4."""
    value: float
    """As printed, in `unit`."""
    std: NonNegative | None = None
    """Standard deviation over folds, where the table prints one."""
    unit: Literal["%", "fraction"] = "%"
    """Of `value` and `std`."""


class Published(Section):
    """What others reached by this recipe, and with what; `faceprint zoo` shows it beside the network measured here."""

    source: str
    """Document or paper that prints the figures."""
    row: str
    """Name of its row."""
    dataset: str
    """Training set."""
    num_images: PositiveInt
    """Of the training set, by its publishers: what `data.path` should hold."""
    num_identities: PositiveInt
    """The same of its people."""
    gpus: PositiveInt
    """How many shared the batch; each had `batch_size` images."""
    size_mb: Positive | None = None
    """Size of the file of weights; null: not printed."""
    scores: list[Score] = []
    """The figures; empty: the table has none for this row."""
    note: str = ""
    """What a reader must know to compare."""


class Config(Section):
    """One run. The defaults are those of a small network on generated identities."""

    recipe: str = ""
    """Name of the recipe, for the record."""
    description: str = ""
    """One line about the recipe, shown by `faceprint zoo`."""
    out: Path | None = None
    """The run folder; null: `runs/` and the recipe's name."""
    init_from: Path | None = None
    """Whose weights are the first: a run folder (class centres too), a model folder or a file of published weights;
    null: random ones."""
    init_match: bool = True
    """Of `init_from`: people who have the same name in both trainings keep their class centres. Say false where names
    are numbers that mean others here."""
    init_images: Count = 4
    """Of `init_from`: the centre of a person who is new begins as the mean embedding of so many of their images; 0: as
    random numbers."""
    seed: Count = 0
    """Of the first weights, the order of the data and the augmentation."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    """Where the network runs; auto: the first of cuda, mps and cpu that is there."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Type that the network computes in; auto: bf16 on a GPU that has it, else fp16; fp32 elsewhere."""
    compile: bool = False
    """Compile the network by `torch.compile`: slower to start, faster afterwards."""
    channels_last: bool = True
    """Keep the channels of a pixel side by side in memory: faster convolutions."""
    network: Network = Network()
    input: Input = Input()
    margin: MarginConfig = MarginConfig()
    classifier: Classifier = Classifier()
    data: Data
    """What is trained on; `data.source` says which kind of data it is."""
    sampler: Sampler = Sampler()
    loader: Loader = Loader()
    augment: Augment = Augment()
    batch_size: PositiveInt = 128
    """Images in one pass of the network, in each process."""
    accumulate: PositiveInt | Literal["auto"] = "auto"
    """Passes whose gradients make one step; the global batch is batch_size x processes x accumulate. auto: as many as
    bring it nearest to reference_batch, 1 where that is null."""
    reference_batch: PositiveInt | None = None
    """The global batch that learning rate and schedule are stated for; null: the actual one."""
    epochs: Positive | None = None
    """Length of the training in passes over the data."""
    steps: PositiveInt | None = None
    """Length of the training in steps. Give exactly one of `epochs` and `steps`."""
    skip_nonfinite: Count = 5
    """Steps in a row that may be left out because loss or gradient is not finite; one more stops the training."""
    optimizer: Optimizer = Optimizer()
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share that the moving average of all weights keeps in each step, such as 0.9998; evaluations and `model/` take
    the average. 0: none is kept."""
    schedule: Schedule = Schedule()
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()
    distributed: Distributed = Distributed()
    distillation: Distillation = Distillation()
    log: Log = Log()
    licence: str = "not stated"
    """Of the trained weights, written into the model file."""
    dry_run: bool = False
    """Tuning mode: train and report, save nothing."""
    profile: bool = False
    """Trace five steps after the first ones: `profile/` in the run folder, and a table of the time by part."""
    resume: bool | Literal["last_good", "auto"] = False
    """Continue the run in `out` from its last checkpoint; last_good: from the newest that is whole; auto: so where
    there is one, else start, as suits jobs that a scheduler starts again."""
    resume_changes: list[str] = []
    """Keys, such as `optimizer`, that may differ from the run's own when it is resumed: the curve is another then."""
    published: Published | None = None
    """Of a recipe that reproduces a published row; does not change the training."""

    @model_validator(mode="after")
    def _one_length(self) -> Config:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(f"give exactly one of epochs and steps, got epochs={self.epochs}, steps={self.steps}")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        if self.margin.name == "triplet" and isinstance(self.data, MixedData) and self.data.classes == "heads":
            raise ValueError("data.classes=heads is for class centres, and margin.name=triplet has none: say separate")
        for key in ("compress", "bucket_mb", "static_graph"):
            if self.distributed.strategy == "fsdp" and getattr(self.distributed, key) != getattr(Distributed(), key):
                raise ValueError(f"distributed.{key} is for distributed.strategy=ddp; leave it out")
        return self

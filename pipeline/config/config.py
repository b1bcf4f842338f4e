"""The whole config: one frozen section for each concern."""

from pathlib import Path

from pydantic import Field

from pipeline.config.augment import AugmentSection
from pipeline.config.data import DataSection
from pipeline.config.evaluate import EvaluateSection
from pipeline.config.head import HeadSection
from pipeline.config.infer import InferSection
from pipeline.config.intensity import IntensitySection
from pipeline.config.labels import LabelsSection
from pipeline.config.loss import LossSection
from pipeline.config.net import NetSection
from pipeline.config.plan import PlanSection
from pipeline.config.prepare import PrepareSection
from pipeline.config.sample import SampleSection
from pipeline.config.section import Location, Section
from pipeline.config.store import StoreSection
from pipeline.config.train import TrainSection


class Config(Section):
    # Not validated: while JSON is read, a Path is no legal path.
    work: Location = Field(Path("runs/work"), validate_default=False, description="folder of this experiment")
    seed: int = Field(0, ge=0, lt=2**32, description="what every random choice starts from")
    labels: LabelsSection | None = Field(None, description="default: those that the data set names")
    data: DataSection = DataSection()
    plan: PlanSection = PlanSection()
    prepare: PrepareSection = PrepareSection()
    store: StoreSection = StoreSection()
    intensity: IntensitySection = IntensitySection()
    sample: SampleSection = SampleSection()
    augment: AugmentSection = AugmentSection()
    head: HeadSection = HeadSection()
    loss: LossSection = LossSection()
    net: NetSection = NetSection()
    train: TrainSection = TrainSection()
    infer: InferSection = InferSection()
    evaluate: EvaluateSection = EvaluateSection()

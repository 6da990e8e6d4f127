"""How other packages are switched on, as their READMEs say, and what is timed of them.

Each builder takes a model and the name of the stock optimizer, and returns one step of
the loop. A package is imported when it is timed, so that the others run without it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from benchmarks.rivals_networks import (
    BATCH_SIZE,
    EXAMPLES,
    L2,
    MOMENTA,
    RATE,
    optimizer_of,
    stepping,
)


def fdr_scheduler(model, name):
    """FDR_scheduler's optimizer in SGD's place."""
    from FDR_SGD import FDR_quencher

    return stepping(
        model,
        FDR_quencher(
            model.parameters(),
            lr_init=RATE,
            momentum=MOMENTA[name],
            dampening=0.0,
            weight_decay=L2,
            t_adaptive=1000,
            X=0.01,
            Y=0.9,
        ),
    )


def physfdt(**settings):
    """Monitor and scheduler of physfdt around the optimizer's step."""

    def build(model, name):
        from physfdt import FDRConfig, FDREquilibriumLR, FDRMonitor

        optimizer = optimizer_of(model, name)
        monitor = FDRMonitor(optimizer, FDRConfig(half_life=500), **settings)
        scheduler = FDREquilibriumLR(optimizer, monitor, factor=0.5)
        loss_function = nn.CrossEntropyLoss()

        def step(x, y):
            optimizer.zero_grad()
            loss_function(model(x), y).backward()
            with monitor.measure():
                optimizer.step()
            scheduler.step()

        return step

    return build


def cockpit_configuration(label):
    """The quantities of one of cockpit's configurations, each at every step."""

    def quantities():
        from cockpit.utils.configuration import configuration

        return configuration(label)

    return quantities


def cockpit_norms():
    """The quantities of cockpit's advanced example that it tracks at every step."""
    from cockpit import quantities
    from cockpit.utils import schedules

    names = ("GradNorm", "Distance", "UpdateSize")
    return [getattr(quantities, n)(schedules.linear(interval=1)) for n in names]


def cockpit(make_quantities, extended=True):
    """Cockpit's context around the backward pass, without its plots.

    `extended=False` leaves BackPACK out, for quantities that do without.
    """

    def build(model, name):
        from backpack import extend
        from cockpit import Cockpit

        loss_function = nn.CrossEntropyLoss()
        if extended:
            model, loss_function = extend(model), extend(loss_function)
        individual_loss_function = nn.CrossEntropyLoss(reduction="none")
        optimizer = optimizer_of(model, name)
        monitor = Cockpit(model.parameters(), quantities=make_quantities())
        steps = 0

        def step(x, y):
            nonlocal steps
            optimizer.zero_grad()
            outputs = model(x)
            loss = loss_function(outputs, y)
            information = {
                "batch_size": len(x),
                "individual_losses": individual_loss_function(outputs, y),
                "loss": loss,
                "optimizer": optimizer,
            }
            with monitor(steps, info=information):
                loss.backward(create_graph=monitor.create_graph(steps))
            optimizer.step()
            steps += 1

        return step

    return build


def statopt_sasa(model, name):
    """SASA+ of statopt in SGD's place; its momentum is dampened, hence its rate."""
    import statopt

    momentum = MOMENTA[name]
    return stepping(
        model,
        statopt.SASA(
            model.parameters(),
            lr=RATE / (1 - momentum),
            momentum=momentum,
            weight_decay=L2,
            testfreq=EXAMPLES // BATCH_SIZE,
        ),
    )


def schedule_free(model, name):
    """Schedule-free SGD in SGD's place: it averages the weights over the whole run."""
    from schedulefree import SGDScheduleFree

    optimizer = SGDScheduleFree(
        model.parameters(), lr=RATE, momentum=MOMENTA[name], weight_decay=L2
    )
    optimizer.train()
    return stepping(model, optimizer)


@dataclass(frozen=True)
class Rival:
    """A rival's setting: how it is built and how many steps a turn it can afford.

    `optimizers` are names of stock optimizers. `same_weights` is whether the rival
    must leave the weights what they are without it.
    """

    package: str
    setting: str
    build: Callable
    steps: int = 300
    plain_steps: int = 300
    optimizers: tuple[str, ...] = tuple(MOMENTA)
    conv_steps: int = 0
    same_weights: bool = True


ALL_OPTIMIZERS = (*MOMENTA, "adam", "adamw")


RIVALS = (
    Rival("FDR_scheduler", "every step (no other)", fdr_scheduler, conv_steps=50),
    Rival(
        "physfdt",
        "every step (default)",
        physfdt(),
        optimizers=ALL_OPTIMIZERS,
        conv_steps=50,
    ),
    Rival(
        "physfdt",
        "every step, mode='grad' (refuses momentum)",
        physfdt(mode="grad"),
        optimizers=("sgd",),
    ),
    Rival(
        "physfdt",
        "every=20 (README's advice)",
        physfdt(every=20),
        optimizers=ALL_OPTIMIZERS,
    ),
    Rival("statopt", "SASA, every step (no other)", statopt_sasa),
    Rival(
        "schedulefree",
        "SGDScheduleFree (another optimizer, no monitor)",
        schedule_free,
        optimizers=("momentum",),
        same_weights=False,
    ),
    Rival(
        "cockpit-for-pytorch",
        "GradNorm, Distance, UpdateSize, every step, without BackPACK",
        cockpit(cockpit_norms, extended=False),
    ),
    Rival(
        "cockpit-for-pytorch",
        "'economy', every step (configuration's default)",
        cockpit(cockpit_configuration("economy")),
        steps=3,
    ),
    Rival(
        "cockpit-for-pytorch",
        "'full', every step, no plots (basic example)",
        cockpit(cockpit_configuration("full")),
        steps=1,
    ),
)

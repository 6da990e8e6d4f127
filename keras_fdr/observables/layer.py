"""What one step measures, and the compiled layer that records it."""

import weakref

import keras
import tensorflow as tf

from keras_fdr import _compat
from keras_fdr.observables.blocks import BlockSums
from keras_fdr.observables.per_variable import VariableSums, unique_names
from keras_fdr.products import checksum, dot, dots, float64
from keras_fdr.record import FULL_BATCH_ROW, ROW, Record
from keras_fdr.saving import SavedState


@keras.saving.register_keras_serializable(package="keras_fdr")
class FDRObservables(SavedState, keras.layers.Layer):
    """Measures the observables of the fluctuation-dissipation relations.

    One call measures one step of SGD with momentum μ and dampening ν, before
    the weights change:

    - `dissipation`: O_L = (θ − θ_c)·∇f^B, eq. (17);
    - `fluctuation`: O_R = (1+μ)/(2(1−ν)) η |v(t+1)|², eq. (17), with
      v(t+1) = μ v(t) − (1−ν) ∇f^B, eq. (10);
    - `velocity_gradient`: v(t)·∇f^B, footnote 5 (0 where there is no velocity);
    - `gradient_norm_squared`: |∇f^B|², whose mean is Tr C̃, eq. (3);
    - `loss`: f^B, NaN where the caller does not know it.

    The rows are summed into `capacity` blocks inside the compiled step. When all
    blocks are full, neighbours merge, so memory stays the same for a run of any
    length. A record belongs to one learning rate: if `learning_rate` differs from
    the one that the record began with, the record restarts at t = 0.

    Example:

    >>> import tensorflow as tf
    >>> observables = FDRObservables()
    >>> theta, gradient = [tf.constant([1.0, 2.0])], [tf.constant([0.5, -1.0])]
    >>> row = observables(
    ...     theta, gradient, [], learning_rate=tf.constant(0.1), momentum=0.0,
    ...     dampening=0.0, loss=tf.constant(0.7))
    >>> print(row.numpy().round(4))
    [-1.5     0.0625  0.      1.25    0.7   ]
    >>> observables.record().steps
    1

    FDR1 holds for each weight tensor by itself: the rows of O_L and O_R are sums
    over tensors, and `per_variable=True` keeps the summands too.

    >>> observables = FDRObservables(per_variable=True)
    >>> theta, gradient = theta + [tf.constant([2.0])], gradient + [tf.constant([1.0])]
    >>> row = observables(
    ...     theta, gradient, [], learning_rate=tf.constant(0.1), momentum=0.0,
    ...     dampening=0.0)
    >>> for name, record in observables.record_by_variable().items():
    ...     print(name, record.sums.round(4))
    weight_0 [[-1.5     0.0625]]
    weight_1 [[2.   0.05]]

    Args:
        capacity: Even integer, at least 2. The number of blocks of the record.
            Half-running averages start exactly at ⌊t/2⌋ while t ≤ `capacity`,
            and within t/`capacity` steps of it afterwards. Defaults to `1024`.
        center: `None` for θ_c = 0, or `"initial"` for the weights when t was
            last 0 (footnote 4: better conditioned where θ is large; costs one
            copy of the weights). Defaults to `None`.
        per_variable: Boolean. Whether to record O_L and O_R of every weight tensor
            by itself as well, for `record_by_variable`. No pass over the weights is
            added; the record grows by `3 * capacity` numbers of 8 bytes for each
            tensor. Defaults to `False`.
        **kwargs: `name` of the layer.

    Call arguments:
        theta: List of weight tensors θ(t).
        gradient: List of gradients ∇f^B of the same shapes, with every L2 term;
            `None` leaves that weight out.
        velocity: List of velocities v(t), *before* the step, free of the
            learning rate; an empty list where there is no momentum.
        learning_rate: Scalar tensor, η.
        momentum: Scalar, μ.
        dampening: Scalar, ν.
        loss: Scalar tensor, f^B with every L2 term, or `None`.

    Returns:
        Float64 tensor of shape `(5,)`: the row, in the order of
        `FDRObservables.names`.

    Raises:
        ValueError: If `capacity`, `center` or `per_variable` is not as above.

    Reference:
        [Yaida, 2019](https://arxiv.org/abs/1810.00004), sections 2.1 and 3.1.
    """

    names = ROW

    def __init__(self, capacity=1024, center=None, per_variable=False, **kwargs):
        kwargs.setdefault("dtype", keras.config.floatx())
        super().__init__(trainable=False, autocast=False, **kwargs)
        if not isinstance(capacity, int) or capacity < 2 or capacity % 2:
            raise ValueError(
                "`capacity` must be an even integer, at least 2. "
                f"Received: capacity={capacity}"
            )
        if not (center is None or (isinstance(center, str) and center == "initial")):
            raise ValueError(
                f'`center` must be None or "initial". Received: center={center!r}'
            )
        if not isinstance(per_variable, bool):
            raise ValueError(
                "`per_variable` must be True or False. "
                f"Received: per_variable={per_variable!r}"
            )
        self.capacity = capacity
        self.center = center
        self.per_variable = per_variable
        self.blocks = BlockSums(capacity, len(ROW), name="blocks")
        self.passes = BlockSums(capacity, len(FULL_BATCH_ROW), name="passes")
        if per_variable:
            self.by_variable = VariableSums(capacity, name="by_variable")
        self._centers = 0
        self._weight_names = None
        self._owner = None
        self._loss = None

    def build(self, theta_shape):
        """Creates the record's variables, for weights of the given shapes.

        Args:
            theta_shape: List of shapes, one per weight tensor.
        """
        self.blocks.build()
        self.passes.build()
        if self.per_variable:
            _check_names(self._weight_names, len(theta_shape))
            self.by_variable.count_weights(len(theta_shape))
            self.by_variable.build()
        once = {"trainable": False, "aggregation": "only_first_replica"}
        # NaN differs from every learning rate: the next step begins a record.
        self.learning_rate = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(float("nan")),
            dtype="float64",
            name="learning_rate",
            **once,
        )
        self.restarts = self.add_weight(
            shape=(), initializer="zeros", dtype="int64", name="restarts", **once
        )
        self.seal_of_weights = self.add_weight(
            shape=(2,), initializer="zeros", dtype="int64", name="seal", **once
        )
        if self.center == "initial":
            # An attribute each: `tf.train.Checkpoint` does not see Keras' lists.
            self._centers = len(theta_shape)
            for i, shape in enumerate(theta_shape):
                name = f"center_{i}"
                weight = self.add_weight(
                    shape=shape, initializer="zeros", name=name, **once
                )
                setattr(self, name, weight)
        self.load_waiting()

    def own_variables(self):
        """Those of the layer itself, without the sums'."""
        state = [self.learning_rate, self.restarts, self.seal_of_weights]
        return state + self.theta_center

    def saved_settings(self):
        """The constructor's arguments."""
        return {
            "capacity": self.capacity,
            "center": self.center,
            "per_variable": self.per_variable,
        }

    @property
    def theta_center(self):
        """List of `keras.Variable`: θ_c; empty for θ_c = 0."""
        return [getattr(self, f"center_{i}") for i in range(self._centers)]

    def name_weights(self, names):
        """Sets the keys of `record_by_variable`; `FDRSGD` gives the weights' paths.

        Args:
            names: List of strings, one per weight tensor. To those that occur more
                than once their position is added, as in `"dense/kernel#2"`. They
                are saved with the record and come back with it.

        Raises:
            ValueError: If there are not as many names as weight tensors.
        """
        if self.built and self.per_variable:
            _check_names(names, self.by_variable.weights_count)
        self._weight_names = unique_names(names)
        if self.per_variable:
            self.by_variable.names = self._weight_names

    @tf.function(autograph=False)
    def call(
        self, theta, gradient, velocity, learning_rate, momentum, dampening, loss=None
    ):
        """Measures one step and adds it to the record (see the class)."""
        eta, mu, nu = map(float64, (learning_rate, momentum, dampening))
        self._begin_or_merge(eta, theta)
        known = [i for i, g in enumerate(gradient) if g is not None]
        g = [gradient[i] for i in known]
        center = self.theta_center
        displacement = [theta[i] - center[i] if center else theta[i] for i in known]

        # A number per weight tensor; the rows of the record are their sums.
        theta_g, g_g = dots(displacement, g), dots(g, g)
        v_g = v_v = tf.zeros_like(g_g)
        if velocity:
            v = [velocity[i] for i in known]
            v_g, v_v = dots(v, g), dots(v, v)

        def fluctuation(v_v, v_g, g_g):
            # |v(t+1)|², eq. (10) squared, so that no pass over v(t+1) is needed.
            v_next_squared = mu**2 * v_v - 2 * mu * (1 - nu) * v_g + (1 - nu) ** 2 * g_g
            return (1 + mu) / (2 * (1 - nu)) * eta * v_next_squared  # eq. (17)

        if self.per_variable:
            self.by_variable.add(known, theta_g, fluctuation(v_v, v_g, g_g))
        theta_g, v_v, v_g, g_g = map(tf.reduce_sum, (theta_g, v_v, v_g, g_g))
        f = float64(float("nan") if loss is None else loss)
        return self.blocks(tf.stack([theta_g, fluctuation(v_v, v_g, g_g), v_g, g_g, f]))

    def record(self):
        """Reads the record from the device.

        Returns:
            A `Record`; its `steps` is 0 before the first step.
        """
        return self._read(self.blocks, ROW)

    def record_by_variable(self):
        """Reads the records of the weight tensors by themselves from the device.

        Returns:
            Dictionary from a weight's name (see `name_weights`; `"weight_0"`, … where
            none was given) to its `Record` of `dissipation` and `fluctuation`. Steps,
            block length and learning rate are those of `record`. A weight that had no
            gradient in any step is left out; in a step without gradient a weight does
            not move, and both are 0. Empty before the first step.

        Raises:
            ValueError: If the layer was made without `per_variable=True`.
        """
        if not self.per_variable:
            raise ValueError(
                "`record_by_variable` needs `FDRObservables(per_variable=True)`. "
                f"Received: per_variable={self.per_variable}"
            )
        if not self.built:
            return {}
        return self.by_variable.split(
            names=self.weight_names(), **self._values(self.by_variable)
        )

    def has_names(self):
        """Whether the weight tensors have names, given or loaded with a record."""
        return bool(self.per_variable and self.by_variable.names)

    def weight_names(self):
        """List of strings, the names of `record_by_variable`."""
        count = self.by_variable.weights_count
        return list(self.by_variable.names or (f"weight_{i}" for i in range(count)))

    @tf.function(autograph=False)
    def measure_full_batch(self, gradient, velocity, momentum, dampening, loss):
        """Measures FDR2's left side once and adds it to the full-batch record.

            O_FB = (1−ν) |∇f|² − μ v(t)·∇f,   eq. (18)

        with the full-batch gradient in both terms: v·∇f^B has the same mean only
        where mini-batches are drawn independently.

        Args:
            gradient: List of tensors, ∇f(θ(t)), with every L2 term.
            velocity: List of velocities v(t), free of the learning rate; an empty
                list where there is no momentum.
            momentum: Scalar, μ.
            dampening: Scalar, ν.
            loss: Scalar, f(θ(t)).

        Returns:
            Float64 tensor of shape `(4,)`: `full_batch_loss`,
            `full_batch_gradient_norm_squared` |∇f|²,
            `full_batch_velocity_gradient` v·∇f and `full_batch_dissipation` O_FB.
        """
        mu, nu, f = map(float64, (momentum, dampening, loss))
        g_g = dot(gradient, gradient)
        v_g = dot(velocity, gradient) if velocity else tf.zeros((), "float64")
        tf.cond(self.passes.is_full(), self.passes.merge, lambda: None)
        return self.passes(tf.stack([f, g_g, v_g, (1 - nu) * g_g - mu * v_g]))

    def full_batch_record(self):
        """Reads the record of the full-batch passes since t was last 0.

        Returns:
            A `Record` whose rows are passes, with its own `names`.
        """
        return self._read(self.passes, FULL_BATCH_ROW)

    def _read(self, blocks, names):
        if not self.built:
            return Record.empty(names)
        return Record(names=names, **self._values(blocks))

    def _values(self, blocks):
        return {**blocks.fetch(), "learning_rate": self.recorded_learning_rate()}

    def recorded_learning_rate(self):
        """Float, η of the record; NaN before its first step."""
        return float(self.learning_rate.numpy()) if self.built else float("nan")

    # A method: Keras would save the layers once more under a property's name.
    def _step_sums(self):
        """What gets a row each step: merged and cleared together."""
        return [self.blocks, self.by_variable] if self.per_variable else [self.blocks]

    def reset(self):
        """Sets t = 0: the next step begins a new record."""
        if self.built:
            for sums in (*self._step_sums(), self.passes):
                sums.clear()
            self.learning_rate.assign(float("nan"))

    def restart_count(self):
        """How often a record was cut short by a change of the learning rate."""
        return int(self.restarts.numpy()) if self.built else 0

    def seal(self, variables):
        """Remembers weights and velocities, by a checksum, as the record left them."""
        values = [tf.convert_to_tensor(v.value) for v in variables]
        steps = tf.convert_to_tensor(self.blocks.steps)
        # Below 0: files of older code have the steps here, beside another checksum.
        self.seal_of_weights.assign(tf.stack([checksum(values), -1 - steps]))

    def is_unchanged(self, variables):
        """Whether weights and velocities are still those of the last `seal`.

        True as well where steps were recorded since: those have moved them.
        """
        sealed, sealed_steps = self.seal_of_weights.numpy()
        steps = int(self.blocks.steps.numpy())
        if steps == 0 or -1 - steps != sealed_steps:
            return True
        values = [tf.convert_to_tensor(v.value) for v in variables]
        return int(checksum(values)) == sealed

    def is_of_another_loss(self, loss):
        """Whether steps were recorded with another loss; remembers the present one.

        Args:
            loss: String that names the loss.
        """
        before, self._loss = self._loss, loss
        return before not in (None, loss) and int(self.blocks.steps.numpy()) > 0

    def claim(self, optimizer):
        """Ties the record to one optimizer, when that is built.

        Raises:
            ValueError: If another optimizer has this layer already.
        """
        if self._owner is not None and self._owner() is not optimizer:
            raise ValueError(
                "An `FDRObservables` holds the record of one optimizer: give each "
                "optimizer one of its own as `observables`. Received: "
                f"observables={self.name!r}, which belongs to another optimizer"
            )
        # Keras would save an optimizer that is an attribute.
        self._owner = weakref.ref(optimizer)

    def get_config(self):
        """The constructor's arguments."""
        layer = {"name": self.name, "dtype": self.dtype_policy.name}
        return {**layer, **self.saved_settings()}

    def _begin_or_merge(self, eta, theta):
        # Rare, so both cases share one branch of the compiled step.
        begins = tf.not_equal(eta, self.learning_rate)

        def begin():
            interrupted = tf.greater(self.blocks.steps, 0)
            self.restarts.assign_add(tf.cast(interrupted, "int64"))
            self.learning_rate.assign(eta)
            for center, weight in zip(self.theta_center, theta, strict=False):
                center.assign(weight)
            for sums in (*self._step_sums(), self.passes):
                sums.clear()

        def merge():
            for sums in self._step_sums():
                sums.merge()

        def change():
            tf.cond(begins, begin, merge)

        def turn(_):
            change()
            return [tf.constant(False)]

        pending = tf.logical_or(begins, self.blocks.is_full())
        if _compat.xla_compiles():
            # It copies what a `tf.cond` may change, here the whole record, in every
            # step: for it, a loop of no turn or one.
            tf.while_loop(lambda pending: pending, turn, [pending])
        else:
            tf.cond(pending, change, lambda: None)


def _check_names(names, count):
    if names is not None and len(names) != count:
        raise ValueError(
            "`names` must have one name for each weight tensor. "
            f"Received: {len(names)} names for {count} tensors"
        )

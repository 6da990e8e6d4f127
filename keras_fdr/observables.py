"""What one step measures, and the compiled layer that records it."""

import keras
import tensorflow as tf

from keras_fdr.blocks import BlockSums
from keras_fdr.record import FULL_BATCH_ROW, ROW, Record


@keras.saving.register_keras_serializable(package="keras_fdr")
class FDRObservables(keras.layers.Layer):
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

    Args:
        capacity: Even integer, at least 2. The number of blocks of the record.
            Half-running averages start exactly at ⌊t/2⌋ while t ≤ `capacity`,
            and within t/`capacity` steps of it afterwards. Defaults to `1024`.
        center: `None` for θ_c = 0, or `"initial"` for the weights when t was
            last 0 (footnote 4: better conditioned where θ is large; costs one
            copy of the weights). Defaults to `None`.
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
        ValueError: If `capacity` or `center` is not as above.

    Reference:
        [Yaida, 2019](https://arxiv.org/abs/1810.00004), sections 2.1 and 3.1.
    """

    names = ROW

    def __init__(self, capacity=1024, center=None, **kwargs):
        kwargs.setdefault("dtype", keras.config.floatx())
        super().__init__(trainable=False, autocast=False, **kwargs)
        if not isinstance(capacity, int) or capacity < 2 or capacity % 2:
            raise ValueError(
                "`capacity` must be an even integer, at least 2. "
                f"Received: capacity={capacity}"
            )
        if center not in (None, "initial"):
            raise ValueError(
                f'`center` must be None or "initial". Received: center={center!r}'
            )
        self.capacity = capacity
        self.center = center
        self.blocks = BlockSums(capacity, len(ROW), name="blocks")
        self.passes = BlockSums(capacity, len(FULL_BATCH_ROW), name="passes")
        self._centers = 0

    def build(self, theta_shape):
        """Creates the record's variables, for weights of the given shapes.

        Args:
            theta_shape: List of shapes, one per weight tensor.
        """
        self.blocks.build()
        self.passes.build()
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

    @property
    def theta_center(self):
        """List of `keras.Variable`: θ_c; empty for θ_c = 0."""
        return [getattr(self, f"center_{i}") for i in range(self._centers)]

    @tf.function
    def call(
        self, theta, gradient, velocity, learning_rate, momentum, dampening, loss=None
    ):
        """Measures one step and adds it to the record (see the class)."""
        eta, mu, nu = map(_float64, (learning_rate, momentum, dampening))
        self._begin_or_merge(eta, theta)
        known = [i for i, g in enumerate(gradient) if g is not None]
        g = [gradient[i] for i in known]
        center = self.theta_center
        displacement = [theta[i] - center[i] if center else theta[i] for i in known]

        theta_g = dot(displacement, g)
        g_g = dot(g, g)
        v_g = v_v = tf.zeros((), "float64")
        if velocity:
            v = [velocity[i] for i in known]
            v_g, v_v = dot(v, g), dot(v, v)
        # |v(t+1)|², eq. (10) squared, so that no pass over v(t+1) is needed.
        v_next_squared = mu**2 * v_v - 2 * mu * (1 - nu) * v_g + (1 - nu) ** 2 * g_g
        fluctuation = (1 + mu) / (2 * (1 - nu)) * eta * v_next_squared  # eq. (17)
        f = _float64(float("nan") if loss is None else loss)
        return self.blocks(tf.stack([theta_g, fluctuation, v_g, g_g, f]))

    def record(self):
        """Reads the record from the device.

        Returns:
            A `Record`; its `steps` is 0 before the first step.
        """
        return self._read(self.blocks, ROW)

    @tf.function
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
        mu, nu, f = map(_float64, (momentum, dampening, loss))
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
        steps = int(blocks.steps.numpy())
        length = int(blocks.block_length.numpy())
        return Record(
            sums=blocks.sums.numpy()[: -(-steps // length)],
            steps=steps,
            block_length=length,
            learning_rate=float(self.learning_rate.numpy()),
            names=names,
        )

    def reset(self):
        """Sets t = 0: the next step begins a new record."""
        if self.built:
            self.blocks.clear()
            self.passes.clear()
            self.learning_rate.assign(float("nan"))

    def restart_count(self):
        """How often a record was cut short by a change of the learning rate."""
        return int(self.restarts.numpy()) if self.built else 0

    def seal(self, weights):
        """Remembers the weights, by a checksum, as the record left them."""
        theta = [tf.convert_to_tensor(w.value) for w in weights]
        steps = tf.convert_to_tensor(self.blocks.steps)
        self.seal_of_weights.assign(tf.stack([self._checksum(theta), steps]))

    def is_sealed(self, weights):
        """Whether the weights are still those of the last `seal`.

        True as well where steps were recorded since: those have moved them.
        """
        checksum, sealed_steps = self.seal_of_weights.numpy()
        steps = int(self.blocks.steps.numpy())
        if steps == 0 or steps != sealed_steps:
            return True
        theta = [tf.convert_to_tensor(w.value) for w in weights]
        return int(self._checksum(theta)) == checksum

    def get_config(self):
        """The constructor's arguments."""
        config = {"capacity": self.capacity, "center": self.center}
        return {"name": self.name, "dtype": self.dtype_policy.name, **config}

    @tf.function
    def _checksum(self, theta):
        # Of integers, so that the order in which they are added does not matter.
        total = tf.zeros((), "int64")
        for i, weight in enumerate(theta):
            integer = tf.int64 if weight.dtype == tf.float64 else tf.int32
            bits = tf.cast(tf.bitcast(weight, integer), "int64")
            total += (2 * i + 1) * tf.reduce_sum(bits)
        return total

    def _begin_or_merge(self, eta, theta):
        # Rare, so both cases share one branch of the compiled step.
        begins = tf.not_equal(eta, self.learning_rate)

        def begin():
            interrupted = tf.greater(self.blocks.steps, 0)
            self.restarts.assign_add(tf.cast(interrupted, "int64"))
            self.learning_rate.assign(eta)
            for center, weight in zip(self.theta_center, theta, strict=False):
                center.assign(weight)
            self.blocks.clear()
            self.passes.clear()

        tf.cond(
            tf.logical_or(begins, self.blocks.is_full()),
            lambda: tf.cond(begins, begin, self.blocks.merge),
            lambda: None,
        )


def _float64(x):
    # `tf.cast` would take a Python number through float32.
    return tf.cast(x, "float64") if tf.is_tensor(x) else tf.constant(x, "float64")


def dot(a, b):
    """Σ_i a_i·b_i over two lists of tensors, as a float64 scalar."""
    parts = [
        2 * tf.nn.l2_loss(x) if x is y else tf.reduce_sum(x * y)
        for x, y in zip(a, b, strict=True)
    ]
    return tf.reduce_sum(tf.cast(tf.stack(parts), "float64"))

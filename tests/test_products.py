"""Scalar products by each kernel, against NumPy in double precision."""

import numpy as np
import pytest
import tensorflow as tf

from keras_fdr import _compat, products

# Odd and even, large enough for a product of matrices and not, of every rank.
SHAPES = [(), (3,), (20_001,), (5, 5, 3, 16), (129, 131), (784, 200), (200, 10)]


def arrays(shape, dtype="float32"):
    rng = np.random.default_rng(1)
    return (rng.normal(0.1, 1, shape).astype(dtype) for _ in range(2))


def check(x, y, measured):
    exact = np.sum(x.astype(np.float64) * y)
    scale = np.linalg.norm(x) * np.linalg.norm(y)
    assert measured.dtype == np.float64
    eps = np.finfo(x.dtype).eps
    np.testing.assert_allclose(measured, [exact], rtol=0, atol=4 * eps * scale)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dots(shape, jit_compile):
    run = tf.function(lambda a, b: products.dots([a], [b]), jit_compile=jit_compile)
    for dtype in ("float32", "float64"):
        x, y = arrays(shape, dtype)
        check(x, y, run(tf.constant(x), tf.constant(y)).numpy())
        square = tf.function(lambda a: products.dots([a], [a]), jit_compile=jit_compile)
        check(x, x, square(tf.constant(x)).numpy())


@pytest.mark.parametrize("kernels", ["xla", "onednn", None])
def test_kernels_agree(monkeypatch, kernels):
    monkeypatch.setattr(_compat, "cpu_kernels", lambda: kernels)
    for shape in SHAPES:
        x, y = arrays(shape)
        check(x, y, products.dots([tf.constant(x)], [tf.constant(y)]).numpy())
        same = tf.constant(x)
        check(x, x, products.dots([same], [same]).numpy())


@pytest.mark.parametrize("shape", [(2048, 2048), (1_500_017,), (262_144,)], ids=str)
def test_large_products_are_rounded_no_worse(shape):
    """Where nothing cancels: one sum of 2^22 products loses 2e-5."""
    x = np.random.default_rng(3).normal(size=shape).astype("float32")
    measured = products.dots([tf.constant(x)], [tf.constant(x)]).numpy()
    exact = np.sum(x.astype(np.float64) ** 2)
    np.testing.assert_allclose(measured, [exact], rtol=2e-6)


@pytest.mark.parametrize("kernels", ["xla", "onednn", None])
@pytest.mark.parametrize("shape", [None, [None, None], [None, 200]], ids=str)
def test_an_unknown_shape_is_measured(monkeypatch, shape, kernels):
    monkeypatch.setattr(_compat, "cpu_kernels", lambda: kernels)
    x, y = arrays((784, 200))

    @tf.function(input_signature=[tf.TensorSpec(shape)] * 2)
    def run(a, b):
        return products.dots([a], [b])

    check(x, y, run(x, y).numpy())


@pytest.mark.parametrize("kernels", ["xla", "onednn", None])
def test_of_nothing(monkeypatch, kernels):
    monkeypatch.setattr(_compat, "cpu_kernels", lambda: kernels)
    empty = tf.zeros((3, 0))
    assert products.dots([empty], [tf.zeros((3, 0))]).numpy() == [0]
    assert products.dots([empty], [empty]).numpy() == [0]


@pytest.mark.parametrize("kernels", ["xla", "onednn", None])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_many_small_tensors_keep_their_order(monkeypatch, jit_compile, kernels):
    """Those of one shape are stacked: each product is still in its tensor's place."""
    monkeypatch.setattr(_compat, "cpu_kernels", lambda: kernels)
    shapes = [(8, 8), (8,), (), (129, 131)] * 5 + [(3, 0), (8,), (5, 5, 3, 2)]
    rng = np.random.default_rng(2)
    x, y = ([rng.normal(size=s).astype("float32") for s in shapes] for _ in range(2))
    run = tf.function(
        lambda a, b: (products.dots(a, b), products.dots(a, a)), jit_compile=jit_compile
    )
    found = run([tf.constant(v) for v in x], [tf.constant(v) for v in y])
    for measured, other in zip(found, (y, x), strict=True):
        assert measured.shape == len(shapes)
        for a, b, product in zip(x, other, measured.numpy(), strict=True):
            check(a, b, product[None])


def test_many_tensors_take_few_operations():
    tensors = [tf.zeros((8, 8))] * 500

    def operations(count):
        run = tf.function(lambda a, b: products.dots(a, b))
        graph = run.get_concrete_function(tensors[:count], tensors[:count]).graph
        return sum(
            o.type not in ("Placeholder", "Const") for o in graph.get_operations()
        )

    assert operations(500) == operations(4)


def test_few_tensors_need_no_reordering():
    tensors = [tf.zeros(s) for s in [(8, 8), (8,), (8, 8), (8,), (8, 3), (3,)]]
    run = tf.function(lambda a, b: products.dots(a, b))
    graph = run.get_concrete_function(tensors, tensors).graph
    assert not {"GatherV2", "ConcatV2"} & {o.type for o in graph.get_operations()}


def test_xla_is_noticed_inside_functions_and_loops():
    seen = []

    def body(i):
        seen.append(_compat.cpu_kernels())
        tf.function(lambda: seen.append(_compat.cpu_kernels()) or i)()
        return i + 1

    def loop():
        return tf.while_loop(lambda i: i < 1, body, [0])

    tf.function(loop, jit_compile=True)()
    assert set(seen) == {"xla"}
    seen.clear()
    tf.function(loop)()
    assert "xla" not in seen and seen


def test_no_product_of_matrices_beside_an_accelerator(monkeypatch):
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda: [gpu])
    assert _compat.cpu_kernels() is None
    a, b = arrays((784, 200))
    graph = tf.function(lambda a, b: products.dots([a], [b])).get_concrete_function(
        tf.constant(a), tf.constant(b)
    )
    assert "MatMul" not in {op.type for op in graph.graph.get_operations()}


@pytest.mark.parametrize("shape", [(3,), (4, 2), (5, 3)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_checksum_sees_every_bit(shape, dtype):
    x, _ = arrays(shape, dtype)
    before = int(products.checksum([tf.constant(x)]))
    raw = x.reshape(-1).view(f"uint{8 * x.itemsize}")
    for position in range(raw.size):
        for bit in range(8 * x.itemsize):
            flip = raw.dtype.type(1 << bit)
            raw[position] ^= flip
            assert int(products.checksum([tf.constant(x)])) != before
            raw[position] ^= flip
    assert int(products.checksum([tf.constant(x)])) == before


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_checksum_sees_order_and_sign(dtype):
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(dtype)
    changes = [
        x[::-1],
        x[:, ::-1],
        x * np.array([1, -1, 1, 1], dtype),
        x * np.array([-1, -1, 1, 1], dtype),
        -x,
        np.roll(x, 1),
    ]
    sums = {int(products.checksum([tf.constant(y)])) for y in [x, *changes]}
    assert len(sums) == 1 + len(changes)


def test_products_of_two_types():
    rng = np.random.default_rng(0)
    types = ["float32", "float64", "float32", "float32", "float32", "float32"]
    x = [rng.normal(size=(3, 2)).astype(dtype) for dtype in types]
    wanted = [float((a.astype("float64") ** 2).sum()) for a in x]
    tensors = [tf.constant(a) for a in x]
    np.testing.assert_allclose(products.dots(tensors, tensors), wanted, rtol=1e-6)

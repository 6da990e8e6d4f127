"""What a compiled training step does, read from its graph."""

import tensorflow as tf


def operations(graph_def):
    """Those that run in every step: all but the branches of conditions."""
    library = {f.signature.name: f.node_def for f in graph_def.library.function}
    waiting, found, seen = list(graph_def.node), [], set()
    while waiting:
        node = waiting.pop()
        found.append(node)
        called = node.attr["f"].func.name if "Call" in node.op else None
        if called and called not in seen:
            seen.add(called)
            waiting.extend(library[called])
    return found


def tensors_of_shape(model, x, y, shape):
    """How many tensors of a shape a step of `model` makes, `train_step` included."""
    model.train_on_batch(x, y)
    function = tf.function(model.train_step, autograph=False)
    graph = function.get_concrete_function((x, y)).graph.as_graph_def(add_shapes=True)
    shapes = [
        tuple(d.size for d in made.dim)
        for node in operations(graph)
        for made in node.attr["_output_shapes"].list.shape
    ]
    return shapes.count(shape)

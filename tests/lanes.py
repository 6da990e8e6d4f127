"""Which cases of long tests are in the default lane.

Each test here compares one thing in many settings, and takes long. The default lane has
every n-th of its cases, from the first on. The others have the marker `wide`. A case is
added to a test as usual: it falls into one of the two lanes.
"""

EVERY = {
    "test_batches.py::test_several_replicas_train_on_the_batches_of_one": 2,
    "test_changes_from_outside.py::test_many_steps_raise_no_alarm": 3,
    "test_curvature.py::test_recurrent_layers_do_without_cudnn": 2,
    "test_final_decay.py::test_resumes_bitwise": 4,
    "test_full_batch.py::test_equals_one_big_batch": 4,
    "test_full_batch_refusals.py::test_deep_copies_work_alike": 4,
    "test_full_batch_refusals.py::test_scales_of_float8_are_no_weights": 4,
    "test_full_batch_weights.py::test_class_weight_is_applied": 4,
    "test_full_batch_weights.py::test_takes_the_same_weights_in_both": 4,
    "test_identity.py::test_models": 2,
    "test_identity.py::test_settings": 4,
    "test_interrupted.py::test_goes_on_bitwise": 3,
    "test_measure.py::test_identity_and_stock_weights": 5,
    "test_measure.py::test_identity_of_settings": 4,
    "test_observables.py::test_half_running_average_beyond_the_capacity": 5,
    "test_optimizer.py::test_follows_stock_sgd": 3,
    "test_optimizer.py::test_follows_stock_sgd_with": 3,
    "test_per_variable.py::test_identity": 3,
    "test_replica_shares.py::test_means_over_counts_of_their_own": 2,
    "test_replicas.py::test_equals_one_device": 5,
    "test_replicas.py::test_other_strategies": 3,
    "test_schedules.py::test_rows_are_those_of_the_displacements": 5,
    "test_serialisation.py::test_a_deep_copy_of_the_callback_works_like_it": 6,
    "test_serialisation.py::test_a_file_without_a_part_of_the_state_is_refused": 3,
    "test_sparse_rows.py::test_other_steps_are_dense": 4,
    "test_sparse_rows.py::test_weights_and_rows_are_those_of_the_dense_step": 4,
    "test_stationary_moments.py::test_half_running_averages_are_the_exact_moments": 5,
    "test_unknown_length.py::test_record_is_that_of_known_length": 3,
}


def wide_cases(names):
    """Positions of the tests that are not in the default lane.

    Args:
        names: List of strings, `file::test` of every collected test, in their order.

    Returns:
        List of integers.
    """
    seen, wide = dict.fromkeys(EVERY, 0), []
    for position, name in enumerate(names):
        if name in seen:
            if seen[name] % EVERY[name]:
                wide.append(position)
            seen[name] += 1
    return wide

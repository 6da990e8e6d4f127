"""What one row of a record holds."""

# Each training step measures these.
ROW = (
    "dissipation",
    "fluctuation",
    "velocity_gradient",
    "gradient_norm_squared",
    "loss",
)

# These are also measured for each weight tensor separately.
VARIABLE_ROW = ("dissipation", "fluctuation")

# A full-batch pass measures these. They have a separate record.
FULL_BATCH_ROW = (
    "full_batch_loss",
    "full_batch_gradient_norm_squared",
    "full_batch_velocity_gradient",
    "full_batch_dissipation",
)

"""`model.fit` under slurm_tf.train, for Keras 3 and tf_keras."""

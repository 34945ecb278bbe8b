"""`model.fit` under the strategies of slurm_tf.train, for models of Keras 3 and tf_keras."""

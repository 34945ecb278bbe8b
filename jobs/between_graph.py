"""Logistic regression on the Wisconsin breast cancer data, as distributed TensorFlow was written in 2016-17.

It does not use slurm-tf: hosts, job name and task index come as flags, and each worker builds a graph of its own.
"""

import numpy as np
import tensorflow.compat.v1 as tf
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

tf.disable_v2_behavior()
tf.logging.set_verbosity(tf.logging.ERROR)

flags = tf.app.flags
flags.DEFINE_string("ps_hosts", "", "Comma-separated list of hostname:port pairs")
flags.DEFINE_string("worker_hosts", "", "Comma-separated list of hostname:port pairs")
flags.DEFINE_string("job_name", "", "One of 'ps', 'worker'")
flags.DEFINE_integer("task_index", 0, "Index of task within the job")
flags.DEFINE_integer("steps", 600, "Steps of all workers together")
flags.DEFINE_integer("batch_size", 32, "Samples in the batch of a worker")
flags.DEFINE_float("learning_rate", 0.1, "Of gradient descent")
flags.DEFINE_string("train_dir", "/tmp/train", "Where checkpoints go")
FLAGS = flags.FLAGS


def load():
    cancer = load_breast_cancer()
    x, x_test, y, y_test = train_test_split(
        cancer.data, cancer.target, test_size=0.25, random_state=0, stratify=cancer.target
    )
    scaler = StandardScaler().fit(x)
    return scaler.transform(x), scaler.transform(x_test), y, y_test


def main(_):
    cluster = tf.train.ClusterSpec({"ps": FLAGS.ps_hosts.split(","), "worker": FLAGS.worker_hosts.split(",")})
    config = tf.ConfigProto(device_filters=["/job:ps", f"/job:{FLAGS.job_name}/task:{FLAGS.task_index}"])
    server = tf.train.Server(cluster, job_name=FLAGS.job_name, task_index=FLAGS.task_index, config=config)
    if FLAGS.job_name == "ps":
        server.join()

    x, x_test, y, y_test = load()
    worker = f"/job:worker/task:{FLAGS.task_index}"
    with tf.device(tf.train.replica_device_setter(worker_device=worker, cluster=cluster)):
        measurements = tf.placeholder(tf.float32, [None, x.shape[1]])
        labels = tf.placeholder(tf.float32, [None])
        weights = tf.get_variable("weights", [x.shape[1]], initializer=tf.zeros_initializer())
        bias = tf.get_variable("bias", [], initializer=tf.zeros_initializer())
        scores = tf.linalg.matvec(measurements, weights) + bias
        loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=scores))
        global_step = tf.train.get_or_create_global_step()
        train = tf.train.GradientDescentOptimizer(FLAGS.learning_rate).minimize(loss, global_step=global_step)

    order = np.random.RandomState(FLAGS.task_index)
    hooks = [tf.train.StopAtStepHook(last_step=FLAGS.steps)]
    is_chief = FLAGS.task_index == 0
    with tf.train.MonitoredTrainingSession(
        master=server.target,
        is_chief=is_chief,
        hooks=hooks,
        config=config,
        checkpoint_dir=FLAGS.train_dir,
        save_checkpoint_steps=200,
        log_step_count_steps=None,
    ) as session:
        while not session.should_stop():
            batch = order.randint(len(x), size=FLAGS.batch_size)
            feed = {measurements: x[batch], labels: y[batch]}
            value, step, final_weights, final_bias, _ = session.run([loss, global_step, weights, bias, train], feed)
            if step % 100 < 2:
                print(f"step {step}/{FLAGS.steps}  loss {value:.4f}")
    if is_chief:
        accuracy = np.mean((x_test @ final_weights + final_bias > 0) == y_test)
        print(f"steps {step}, test accuracy {accuracy:.4f} on {len(y_test)} samples")


if __name__ == "__main__":
    tf.app.run()

"""The messages of TensorFlow Serving's protocols, as classes. Needs protobuf alone, runs on Python 3.9.

tensorflow_serving.desc holds the descriptors that protoc made of the public .proto files of TensorFlow Serving (commit
9d981c5c, apis/{prediction_service,model_service,prediction_log}.proto with all that these import; LICENSE is theirs),
of TensorFlow 2.21 and of gRPC (grpc/health/v1/health.proto):

    protoc -I. --include_imports --descriptor_set_out=tensorflow_serving.desc FILES

Descriptors, not generated modules: these refuse an older protobuf than that of their protoc, and a program that also
imports tensorflow_serving would have each message twice. The pool here is one of its own, so both can be.
"""

import os
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FILE = os.path.join(os.path.dirname(__file__), "tensorflow_serving.desc")


def _pool() -> descriptor_pool.DescriptorPool:
    with open(_FILE, "rb") as file:
        descriptors = descriptor_pb2.FileDescriptorSet.FromString(file.read())
    pool = descriptor_pool.DescriptorPool()
    for each in descriptors.file:
        pool.AddSerializedFile(each.SerializeToString())
    return pool


_POOL = _pool()


def _message(name: str) -> Any:  # noqa: ANN401 - a class that protobuf makes
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))


TensorProto = _message("tensorflow.TensorProto")
TensorShapeProto = _message("tensorflow.TensorShapeProto")
SignatureDef = _message("tensorflow.SignatureDef")
Example = _message("tensorflow.Example")
ModelSpec = _message("tensorflow.serving.ModelSpec")
PredictRequest = _message("tensorflow.serving.PredictRequest")
PredictResponse = _message("tensorflow.serving.PredictResponse")
ClassificationRequest = _message("tensorflow.serving.ClassificationRequest")
ClassificationResponse = _message("tensorflow.serving.ClassificationResponse")
RegressionRequest = _message("tensorflow.serving.RegressionRequest")
RegressionResponse = _message("tensorflow.serving.RegressionResponse")
MultiInferenceRequest = _message("tensorflow.serving.MultiInferenceRequest")
MultiInferenceResponse = _message("tensorflow.serving.MultiInferenceResponse")
GetModelMetadataRequest = _message("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = _message("tensorflow.serving.GetModelMetadataResponse")
SignatureDefMap = _message("tensorflow.serving.SignatureDefMap")
GetModelStatusRequest = _message("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = _message("tensorflow.serving.GetModelStatusResponse")
ModelVersionStatus = _message("tensorflow.serving.ModelVersionStatus")
ReloadConfigRequest = _message("tensorflow.serving.ReloadConfigRequest")
ReloadConfigResponse = _message("tensorflow.serving.ReloadConfigResponse")
PredictionLog = _message("tensorflow.serving.PredictionLog")
HealthCheckRequest = _message("grpc.health.v1.HealthCheckRequest")
HealthCheckResponse = _message("grpc.health.v1.HealthCheckResponse")

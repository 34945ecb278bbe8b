"""The messages of TensorFlow Serving's protocols and of gRPC's health check, for any release of protobuf from 5.26."""

//! The protocol as it is known: names, numbers and types. Whoever changes one of them no longer speaks it.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};
use taskbroker_proto::FILE_DESCRIPTOR_SET;

const PACKAGE: &str = "sentry_protos.taskbroker.v1";

const MESSAGES: &str = "
RetryState
  1 attempts: uint32
  2 max_attempts: uint32
  3 on_attempts_exceeded: OnAttemptsExceeded
  4 at_most_once: optional bool
  5 delay_on_retry: optional uint64
TaskActivation
  1 id: string
  2 namespace: string
  3 taskname: string
  4 parameters: string
  5 headers: map<string, string>
  6 received_at: Timestamp
  7 retry_state: RetryState
  8 processing_deadline_duration: uint64
  9 expires: optional uint64
  11 delay: optional uint64
  12 application: optional string
  13 parameters_bytes: bytes
GetTaskRequest
  1 namespace: optional string
  2 application: optional string
GetTaskResponse
  1 task: optional TaskActivation
FetchNextTask
  1 namespace: optional string
  2 application: optional string
SetTaskStatusRequest
  1 id: string
  2 status: TaskActivationStatus
  3 fetch_next_task: optional FetchNextTask
  4 max_attempts: optional uint32
  5 delay_on_retry: optional uint64
SetTaskStatusResponse
  1 task: optional TaskActivation
SetBatchActivationStatusRequest
  1 updates: repeated SetTaskStatusRequest
SetBatchActivationStatusResponse
PushTaskRequest
  1 task: TaskActivation
  2 callback_url: string
PushTaskResponse
";

const ENUMS: &str = "
OnAttemptsExceeded
  0 ON_ATTEMPTS_EXCEEDED_UNSPECIFIED
  1 ON_ATTEMPTS_EXCEEDED_DISCARD
  2 ON_ATTEMPTS_EXCEEDED_DEADLETTER
TaskActivationStatus
  0 TASK_ACTIVATION_STATUS_UNSPECIFIED
  1 TASK_ACTIVATION_STATUS_PENDING
  2 TASK_ACTIVATION_STATUS_PROCESSING
  3 TASK_ACTIVATION_STATUS_FAILURE
  4 TASK_ACTIVATION_STATUS_RETRY
  5 TASK_ACTIVATION_STATUS_COMPLETE
";

const SERVICES: &str = "
ConsumerService
  GetTask: GetTaskRequest -> GetTaskResponse
  SetTaskStatus: SetTaskStatusRequest -> SetTaskStatusResponse
  SetBatchActivationStatus: SetBatchActivationStatusRequest -> SetBatchActivationStatusResponse
WorkerService
  PushTask: PushTaskRequest -> PushTaskResponse
";

/// The file of the protocol; the only one of its package, so that nothing of ours is in it.
fn file() -> FileDescriptorProto {
    let all = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
    let [file] = <[_; 1]>::try_from(all.into_iter().filter(|file| file.package() == PACKAGE).collect::<Vec<_>>())
        .unwrap_or_else(|files| panic!("{} files of {PACKAGE}", files.len()));
    file
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap()
}

fn type_of(field: &FieldDescriptorProto, message: &DescriptorProto) -> String {
    let entry = message.nested_type.iter().find(|nested| nested.name() == last(field.type_name()));
    if let Some(entry) = entry.filter(|entry| entry.options.as_ref().is_some_and(|options| options.map_entry())) {
        return format!("map<{}, {}>", type_of(&entry.field[0], entry), type_of(&entry.field[1], entry));
    }
    let name = match field.r#type() {
        Type::Message | Type::Enum => last(field.type_name()).to_owned(),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    match field.label() {
        Label::Repeated => format!("repeated {name}"),
        Label::Optional | Label::Required if field.proto3_optional() => format!("optional {name}"),
        Label::Optional | Label::Required => name,
    }
}

fn message(message: &DescriptorProto) -> String {
    let field =
        |field: &FieldDescriptorProto| format!("  {} {}: {}\n", field.number(), field.name(), type_of(field, message));
    format!("{}\n{}", message.name(), message.field.iter().map(field).collect::<String>())
}

fn enumeration(found: &EnumDescriptorProto) -> String {
    let values = found.value.iter().map(|value| format!("  {} {}\n", value.number(), value.name()));
    format!("{}\n{}", found.name(), values.collect::<String>())
}

fn service(service: &ServiceDescriptorProto) -> String {
    let methods = service.method.iter().map(|method| {
        assert!(!method.client_streaming() && !method.server_streaming(), "{}", method.name());
        format!("  {}: {} -> {}\n", method.name(), last(method.input_type()), last(method.output_type()))
    });
    format!("{}\n{}", service.name(), methods.collect::<String>())
}

#[test]
fn messages_enums_and_services_are_those_that_clients_and_producers_speak() {
    let file = file();
    assert_eq!(file.syntax(), "proto3");
    assert_eq!(file.message_type.iter().map(message).collect::<String>(), MESSAGES.trim_start());
    assert_eq!(file.enum_type.iter().map(enumeration).collect::<String>(), ENUMS.trim_start());
    assert_eq!(file.service.iter().map(service).collect::<String>(), SERVICES.trim_start());
}

#!/bin/sh
# Runs one of Kafka's Java classes: run-class.sh CLASS [ARGS…].
exec /opt/java/bin/java ${KAFKA_HEAP_OPTS:--Xmx256m} -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp '/opt/kafka/libs/*' \
  -Dlog4j2.configurationFile=/opt/kafka/bin/log4j2.properties "$@"

#!/bin/sh
# Starts Kafka from its environment, by the convention of the official image: KAFKA_NODE_ID=1 is node.id=1 (one underscore is
# a dot, two are an underscore, three are a dash). The storage is formatted at the first start.
set -eu

properties=/tmp/server.properties
data=${KAFKA_LOG_DIRS:-/var/lib/kafka/data}

write_properties() {
  echo "log.dirs=$data"
  env | grep '^KAFKA_' | grep -v '^KAFKA_\(LOG_DIRS\|HEAP_OPTS\|OPTS\)=' | while IFS='=' read -r name value; do
    key=$(echo "${name#KAFKA_}" | tr 'A-Z' 'a-z' | sed 's/___/-/g; s/__/+/g; s/_/./g; s/+/_/g')
    echo "$key=$value"
  done
}

# 16 random bytes in URL-safe base64 without padding; Kafka refuses a leading dash.
new_cluster_id() { head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n' | sed 's/^-/A/'; }

write_properties >"$properties"
if ! [ -f "$data/meta.properties" ]; then
  /opt/kafka/bin/kafka-storage.sh format --cluster-id "${CLUSTER_ID:-$(new_cluster_id)}" --config "$properties"
fi
KAFKA_HEAP_OPTS=${KAFKA_HEAP_OPTS:--Xms256m -Xmx512m} exec /opt/kafka/bin/run-class.sh kafka.Kafka "$properties"

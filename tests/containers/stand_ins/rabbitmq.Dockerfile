# rabbitmq:*-management: Debian's RabbitMQ behind the names and habits of the official image, as far as our compose file
# relies on them.
FROM ticketrush-stand-in:debian
ENV PATH=/usr/lib/rabbitmq/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/var/lib/rabbitmq LANG=C.UTF-8 RABBITMQ_LOGS=-
COPY rabbitmq.sh /usr/local/bin/docker-entrypoint.sh
RUN chmod 755 /usr/local/bin/docker-entrypoint.sh && rabbitmq-plugins enable --offline rabbitmq_management
VOLUME /var/lib/rabbitmq
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["rabbitmq-server"]

COMMENT ON SCHEMA reports IS 'what people look at every morning';

CREATE TABLE public.audit (at timestamptz NOT NULL DEFAULT now(), what text NOT NULL);

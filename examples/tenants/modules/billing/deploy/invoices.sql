CREATE TABLE public.invoices (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), account_id uuid NOT NULL REFERENCES public.accounts (id), cents bigint NOT NULL CHECK (cents >= 0));
